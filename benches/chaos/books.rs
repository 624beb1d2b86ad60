//! The books: what has to be equal, and what has to be nothing.

use std::sync::atomic::Ordering;

use serde_json::Value;
use tokio::runtime::Handle;
use tower_dspy::{HostStats, WorkerStats, layers::CallCounts, server::ServeReport};

use crate::{
    disruptions::Disruptions,
    outcomes::OutcomeCounts,
    site::Site,
    support::{LmProcess, child_processes, count, figure, median, read_process},
};

/// The most that memory may grow after the first quarter, in percent.
const MOST_GROWTH: f64 = 5.0;

/// What there is at a moment without calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Left {
    /// Calls in hosts, permits, calls in trackers, LM calls, streams.
    pub(crate) work: u64,
    /// Descriptors of this process, without those to the LM, which are kept for the next calls.
    descriptors: u64,
    threads: u64,
    tokio_tasks: u64,
    asyncio_tasks: u64,
    /// Child processes, without the LM's.
    children: u64,
    lm_connections: u64,
}

impl Left {
    pub(crate) async fn of(sites: &[Site], lm: &mut LmProcess) -> Self {
        let mut left = Self::of_process(lm).await;
        for site in sites {
            let (stats, calls) = (site.host.stats(), site.tracker.counts());
            let permits = site.bare.iter().map(|program| program.in_flight() as u64);
            left.work += permits.sum::<u64>() + calls.live() + stats.in_lm_calls + stats.streams;
            left.work += stats.queued + stats.running + stats.orphans + stats.abandoned;
            left.asyncio_tasks += site.asyncio_tasks().await.unwrap_or(u64::MAX / 4);
        }
        left
    }

    pub(crate) async fn of_process(lm: &mut LmProcess) -> Self {
        let lm_connections = lm.connections().await.expect("the LM");
        let process = read_process("self").expect("this process");
        let children = child_processes();
        Self {
            work: 0,
            descriptors: process.descriptors.saturating_sub(lm_connections),
            threads: process.threads,
            tokio_tasks: Handle::current().metrics().num_alive_tasks() as u64,
            asyncio_tasks: 0,
            children: children
                .into_iter()
                .filter(|pid| Some(*pid) != lm.pid)
                .count() as u64,
            lm_connections,
        }
    }

    /// What hosts leave that have stopped: processes of workers, and connections to the LM.
    pub(crate) const fn of_stopped_hosts(&self) -> u64 {
        self.children + self.lm_connections
    }

    pub(crate) fn is_within(&self, baseline: &Self) -> bool {
        self.rows(baseline).iter().all(|(_, over)| *over == 0)
    }

    /// How much more of each there is than at the baseline.
    fn rows(&self, baseline: &Self) -> [(&'static str, u64); 6] {
        [
            ("chaos_work_left", self.work),
            (
                "chaos_descriptors_left",
                self.descriptors.saturating_sub(baseline.descriptors),
            ),
            (
                "chaos_threads_left",
                self.threads.saturating_sub(baseline.threads),
            ),
            (
                "chaos_tokio_tasks_left",
                self.tokio_tasks.saturating_sub(baseline.tokio_tasks),
            ),
            (
                "chaos_asyncio_tasks_left",
                self.asyncio_tasks.saturating_sub(baseline.asyncio_tasks),
            ),
            (
                "chaos_processes_left",
                self.children.saturating_sub(baseline.children),
            ),
        ]
    }
}

/// The books of one host, closed.
pub(crate) struct SiteBooks {
    name: &'static str,
    callers: OutcomeCounts,
    tracker: CallCounts,
    server: ServeReport,
    host: HostStats,
    /// Attempts that ended as `Lost`: as the layers saw it, and as the pool counts it.
    lost: (u64, u64),
    workers: Option<WorkerStats>,
}

impl SiteBooks {
    pub(crate) async fn end(site: Site, callers: OutcomeCounts) -> Self {
        let (name, tracker) = (site.name, site.tracker.clone());
        let workers = site.host.worker_stats();
        let lost = site.lost.load(Ordering::Relaxed);
        let (server, host) = site.end().await;
        Self {
            name,
            callers,
            tracker: tracker.counts(),
            server,
            host,
            lost: (lost, workers.as_ref().map_or(0, |stats| stats.calls_lost)),
            workers,
        }
    }

    /// Calls that one of the books has and another one has not.
    fn lost_silently(&self) -> u64 {
        let (callers, tracker, requests) = (&self.callers, &self.tracker, &self.server.requests);
        let rows = [
            ("callers: no outcome", callers.silent + callers.missing()),
            ("callers: a wrong answer", callers.wrong),
            ("callers: an answer cut off", callers.cut),
            (
                "tracker: accepted = completed + failed + timed out + cancelled",
                tracker.accepted.abs_diff(
                    tracker.completed + tracker.failed + tracker.timed_out + tracker.cancelled,
                ),
            ),
            (
                "callers' answers are completed calls of the tracker",
                callers.answered.saturating_sub(tracker.completed),
            ),
            (
                "server: accepted = completed + failed + cancelled, none abandoned",
                requests
                    .accepted
                    .abs_diff(requests.completed + requests.failed + requests.cancelled),
            ),
            (
                "host: submitted = settled",
                self.host.submitted.abs_diff(self.host.settled),
            ),
            (
                "layers: lost attempts are counted by the pool",
                self.lost.0.saturating_sub(self.lost.1),
            ),
        ];
        println!("{}:", self.name);
        for (what, wrong) in rows {
            println!("  {wrong:>6}  {what}");
        }
        rows.iter().map(|(_, wrong)| wrong).sum()
    }

    fn print(&self) {
        let callers = &self.callers;
        println!(
            "  callers: {} calls = {} answered + {} failed + {} cancelled + {} lost; failed: {:?}",
            callers.made,
            callers.answered,
            callers.failures(),
            callers.cancelled,
            callers.lost,
            callers.failed,
        );
        println!("  tracker: {:?}", self.tracker);
        println!("  server:  {}", self.server);
        let host = &self.host;
        println!(
            "  host:    {} submitted, {} settled, {} cancelled, {} strays, {} threads replaced; LM \
             calls: {} answered, {} elapsed, {} cancelled, {} refused, {} failed",
            host.submitted,
            host.settled,
            host.cancelled,
            host.strays,
            host.replaced,
            host.lm.answered,
            host.lm.elapsed,
            host.lm.cancelled,
            host.lm.refused,
            host.lm.failed,
        );
        if let Some(workers) = &self.workers {
            println!(
                "  workers: {} lost, of which {} were killed for a call that did not stop; {} \
                 recycled; {} calls lost",
                workers.lost, workers.killed, workers.recycled, workers.calls_lost,
            );
            for worker in &workers.ended {
                println!("           {worker:?}");
            }
        }
    }
}

pub(crate) struct Books {
    pub(crate) baseline: Left,
    pub(crate) left: Left,
    pub(crate) rss: Vec<f64>,
    pub(crate) disruptions: Disruptions,
    pub(crate) lm: Value,
    pub(crate) sites: Vec<SiteBooks>,
    pub(crate) after_stop: Left,
}

impl Books {
    /// Prints all; returns how many figures are not as they have to be.
    pub(crate) fn close(&self) -> u64 {
        let lost: u64 = self
            .sites
            .iter()
            .map(|site| {
                let lost = site.lost_silently();
                site.print();
                lost
            })
            .sum();
        println!("LM: {}", self.lm);
        println!(
            "{} kills of workers, {} programs replaced, {} not replaced, {} loaded beside",
            self.disruptions.kills,
            self.disruptions.replaced,
            self.disruptions.not_replaced,
            self.disruptions.loaded,
        );
        let mut wrong = u64::from(lost > 0);
        let made = self.sites.iter().map(|site| site.callers.made).sum();
        count("chaos_calls", made);
        count("chaos_lost_silently", lost);
        let stopped = self.after_stop.of_stopped_hosts();
        let at_stop = |site: &SiteBooks| site.host.running + site.host.queued + site.host.orphans;
        let orphans = self.left.work + stopped + self.sites.iter().map(at_stop).sum::<u64>();
        wrong += u64::from(orphans > 0);
        count("chaos_orphans_left", orphans);
        for (name, over) in self.left.rows(&self.baseline) {
            count(name, over);
            wrong += u64::from(over > 0);
        }
        let growth = growth(&self.rss);
        figure("chaos_rss_growth", growth, "%");
        wrong + u64::from(growth.is_nan() || growth > MOST_GROWTH)
    }
}

/// Of the last tenth over the tenth behind the first quarter, in percent.
fn growth(rss: &[f64]) -> f64 {
    let tenth = (rss.len() / 10).max(1);
    let (Some(plateau), Some(last)) = (
        rss.get(rss.len() / 4..(rss.len() / 4 + tenth).min(rss.len())),
        rss.get(rss.len().saturating_sub(tenth)..),
    ) else {
        return f64::NAN;
    };
    let (plateau, last) = (median(plateau.to_vec()), median(last.to_vec()));
    println!(
        "memory of this process by tenths of the time, in MB: {:.1?}",
        rss.chunks(tenth)
            .map(|part| median(part.to_vec()) / 1024.0)
            .collect::<Vec<_>>()
    );
    println!(
        "memory of this process: {:.1} MB after a quarter, {:.1} MB at the end",
        plateau / 1024.0,
        last / 1024.0
    );
    100.0 * (last - plateau) / plateau
}
