//! The books: what has to be equal, and what has to be nothing.

use std::sync::atomic::Ordering;

use serde_json::Value;
use tower_dspy::{HostStats, WorkerStats, layers::CallCounts, server::ServeReport};

use crate::{
    disruptions::Disruptions,
    faults::FAULTS,
    left::Left,
    log,
    outcomes::{CALM, OutcomeCounts},
    site::{PROGRAMS, Site},
    support::{count, figure, median},
};

/// The most that memory may grow after the first quarter, in percent.
const MOST_GROWTH: f64 = 5.0;
/// The least share of calls that is answered, in percent: with faults, as a run of refusals proves
/// nothing, and in the calm stretch, where only a slow machine lets the limits of the layers pass.
const LEAST_WITH_FAULTS: u64 = 10;
const LEAST_OF_CALM: u64 = 90;

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
    attempts: u64,
    bare_calls: u64,
    exceptions: u64,
}

/// How far `a` is below `b`, or above it by more than `slack`.
const fn excess(a: u64, b: u64, slack: u64) -> u64 {
    b.saturating_sub(a) + a.saturating_sub(b + slack)
}

impl SiteBooks {
    pub(crate) async fn end(site: Site, callers: OutcomeCounts) -> Self {
        let (name, tracker) = (site.name, site.tracker.clone());
        let workers = site.host.worker_stats();
        let lost = site.lost.load(Ordering::Relaxed);
        let [attempts, bare_calls, exceptions] =
            [&*site.attempts, &site.bare_calls, &*site.exceptions]
                .map(|count| count.load(Ordering::Relaxed));
        let (server, host) = site.end().await;
        Self {
            name,
            callers,
            tracker: tracker.counts(),
            server,
            host,
            lost: (lost, workers.as_ref().map_or(0, |stats| stats.calls_lost)),
            workers,
            attempts,
            bare_calls,
            exceptions,
        }
    }

    /// Calls that one of the books has and another one has not.
    ///
    /// A caller that left, or whose own deadline passed first, does not know what became of its
    /// call: by so many calls the books of two sides may differ.
    fn lost_silently(&self, loaded: u64) -> u64 {
        let (callers, tracker, requests) = (&self.callers, &self.tracker, &self.server.requests);
        let unknown = callers.cancelled + callers.failed_as(&["deadline"]);
        let failed = callers.lost
            + callers.failed_as(&["lm_unavailable", "lm_rejected", "overloaded", "program"]);
        let elapsed = callers.failed_as(&["elapsed"]);
        let rows = [
            (
                "programs: an exception that no fault explains",
                self.exceptions,
            ),
            (
                "calls that callers made and no layer saw, more than may be",
                excess(callers.made, tracker.accepted, unknown),
            ),
            (
                "calls by HTTP and gRPC that no server saw, more than may be",
                excess(callers.remote, requests.accepted, unknown),
            ),
            (
                "answers that no caller has",
                excess(tracker.completed, callers.answered, unknown),
            ),
            (
                "failures that no caller has",
                excess(tracker.failed, failed, unknown),
            ),
            (
                "timed-out calls that no caller has",
                excess(tracker.timed_out, elapsed, unknown),
            ),
            (
                "cancelled calls that no caller has",
                tracker.cancelled.saturating_sub(unknown),
            ),
            (
                "calls of the host that are no attempt of the layers",
                self.host
                    .submitted
                    .saturating_sub(self.attempts + self.bare_calls + loaded),
            ),
            (
                "attempts beyond one retry",
                self.attempts.saturating_sub(2 * tracker.accepted),
            ),
            (
                "answers of no attempt",
                tracker.completed.saturating_sub(self.host.submitted),
            ),
            (
                "callers' lost calls that no layer saw",
                callers.lost.saturating_sub(self.lost.0),
            ),
            (
                "pool: lost calls that neither the layers saw nor were told to stop",
                self.lost
                    .1
                    .saturating_sub(self.lost.0 + self.host.cancelled),
            ),
            (
                "workers killed for a call that did not stop",
                self.workers.as_ref().map_or(0, |workers| workers.killed),
            ),
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

    /// What the run was to do to this host and did not.
    fn not_done(&self) -> u64 {
        let mut missing = 0;
        let (mut all, mut all_answered) = (0, 0);
        for name in PROGRAMS.map(|(name, _)| name).into_iter().chain([CALM]) {
            let counts = self.callers.programs.get(name);
            let (made, answered) = counts.copied().unwrap_or_default();
            println!(
                "  {} {name}: {answered} of {made} calls answered",
                self.name
            );
            let least = if name == CALM { LEAST_OF_CALM } else { 0 };
            missing += u64::from(answered == 0 || answered * 100 < made * least);
            if name != CALM {
                all += made;
                all_answered += answered;
            }
        }
        println!(
            "  {}, with faults: {all_answered} of {all} calls answered",
            self.name
        );
        missing + u64::from(all_answered * 100 < all * LEAST_WITH_FAULTS)
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
        println!(
            "  tracker: {:?}; {} attempts, of which {} lost",
            self.tracker, self.attempts, self.lost.0
        );
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
    /// What the run was to do and did not: it has to use each fault, and to disturb the hosts.
    fn not_done(&self) -> u64 {
        let done = &self.disruptions;
        let faults = self.lm["faults"]
            .as_object()
            .map_or(0, |faults| faults.len());
        let rows = [
            ("no worker was killed", u64::from(done.kills == 0)),
            ("no program was replaced", u64::from(done.replaced == 0)),
            ("programs were not replaced", done.not_replaced),
            ("no program was loaded", u64::from(done.loaded == 0)),
            ("programs were not loaded", done.not_loaded),
            (
                "faults of the LM were not used",
                FAULTS.len().saturating_sub(faults) as u64,
            ),
        ];
        for (what, n) in rows.iter().filter(|(_, n)| *n > 0) {
            println!("{what}: {n}");
        }
        let sites = self.sites.iter().map(SiteBooks::not_done);
        rows.iter().map(|(_, n)| n).sum::<u64>() + sites.sum::<u64>()
    }

    /// Prints all; returns how many figures are not as they have to be.
    pub(crate) fn close(&self) -> u64 {
        let lost: u64 = self
            .sites
            .iter()
            .map(|site| {
                let loaded = self.disruptions.loaded;
                let lost = site.lost_silently(loaded);
                site.print();
                lost
            })
            .sum();
        log::print_kills();
        println!("LM: {}", self.lm);
        println!(
            "{} kills of workers, {} programs replaced, {} not replaced, {} loaded beside, {} not",
            self.disruptions.kills,
            self.disruptions.replaced,
            self.disruptions.not_replaced,
            self.disruptions.loaded,
            self.disruptions.not_loaded,
        );
        let mut wrong = u64::from(lost > 0);
        let not_done = self.not_done();
        wrong += u64::from(not_done > 0);
        count("chaos_not_done", not_done);
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
