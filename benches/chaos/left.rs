//! What is left at a moment without calls.

use tokio::runtime::Handle;

use crate::{
    processes::waiting_processes,
    site::Site,
    support::{LmProcess, child_processes, read_process},
};

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
    /// Descriptors and threads of the worker that has most.
    worker_descriptors: u64,
    worker_threads: u64,
    /// Child processes of programs that wait for an hour, of whatever parent.
    pub(crate) waiting: u64,
}

impl Left {
    pub(crate) async fn of(sites: &[Site], lm: &mut LmProcess) -> Self {
        let mut left = Self::of_process(lm).await;
        for site in sites {
            let (stats, calls) = (site.host.stats(), site.tracker.counts());
            let permits = site.bare.iter().map(|program| program.in_flight() as u64);
            left.work += permits.sum::<u64>() + calls.live() + stats.in_lm_calls + stats.streams;
            left.work += stats.queued + stats.running + stats.orphans + stats.abandoned;
            for worker in site.host.worker_stats().unwrap_or_default().processes {
                let read = read_process(&worker.pid.to_string()).unwrap_or_default();
                left.worker_descriptors = left.worker_descriptors.max(read.descriptors);
                left.worker_threads = left.worker_threads.max(read.threads);
            }
            left.asyncio_tasks += site.asyncio_tasks().await.unwrap_or(u64::MAX / 4);
        }
        left
    }

    pub(crate) async fn of_process(lm: &mut LmProcess) -> Self {
        let lm_connections = lm.connections().await.expect("the LM");
        let process = read_process("self").expect("this process");
        let children = child_processes();
        Self {
            descriptors: process.descriptors.saturating_sub(lm_connections),
            threads: process.threads,
            tokio_tasks: Handle::current().metrics().num_alive_tasks() as u64,
            children: children
                .into_iter()
                .filter(|pid| Some(*pid) != lm.pid)
                .count() as u64,
            lm_connections,
            waiting: waiting_processes().len() as u64,
            ..Self::default()
        }
    }

    /// What hosts leave that have stopped: processes of workers, and connections to the LM.
    pub(crate) const fn of_stopped_hosts(&self) -> u64 {
        self.children + self.lm_connections + self.waiting
    }

    pub(crate) fn is_within(&self, baseline: &Self) -> bool {
        self.rows(baseline).iter().all(|(_, over)| *over == 0)
    }

    /// How much more of each there is than at the baseline.
    pub(crate) fn rows(&self, baseline: &Self) -> [(&'static str, u64); 10] {
        [
            ("chaos_work_left", self.work),
            ("chaos_waiting_processes_left", self.waiting),
            (
                "chaos_worker_descriptors_left",
                self.worker_descriptors
                    .saturating_sub(baseline.worker_descriptors),
            ),
            (
                "chaos_worker_threads_left",
                self.worker_threads.saturating_sub(baseline.worker_threads),
            ),
            (
                "chaos_lm_connections_left",
                self.lm_connections.saturating_sub(baseline.lm_connections),
            ),
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
