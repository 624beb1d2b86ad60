//! What a pool tells of its workers.

use std::sync::{Arc, Mutex, PoisonError};

use super::WorkerState;
use crate::bridge::{counters::Count, inbox::Inbox};

/// A reading of a pool of workers, from [`Host::worker_stats`](crate::Host::worker_stats).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// The processes there are, the oldest first.
    pub processes: Vec<WorkerProcess>,
    /// Workers ever killed, because a call that was to stop did not.
    pub killed: u64,
    /// Workers ever lost: killed, or ended by themselves. Those that were to end are not counted.
    pub lost: u64,
    /// Calls that lost their worker, each answered with [`Lost`](crate::Lost), or as cancelled if
    /// it was.
    pub calls_lost: u64,
}

impl WorkerStats {
    /// How many workers take calls.
    #[must_use]
    pub fn ready(&self) -> usize {
        let ready = |process: &&WorkerProcess| process.state == WorkerState::Ready;
        self.processes.iter().filter(ready).count()
    }
}

/// A worker process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerProcess {
    /// Its process id.
    pub pid: u32,
    /// How far it is.
    pub state: WorkerState,
}

/// What the pool's thread writes down and others read. Stops the pool with the last host of it.
#[derive(Debug)]
pub(in crate::bridge) struct Roster {
    pub(super) counts: Arc<Counts>,
    pub(super) inbox: Arc<Inbox>,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    processes: Mutex<Vec<WorkerProcess>>,
    pub(super) killed: Count,
    pub(super) lost: Count,
    pub(super) calls_lost: Count,
}

impl Counts {
    pub(super) fn publish(&self, processes: Vec<WorkerProcess>) {
        *self
            .processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = processes;
    }
}

impl Roster {
    pub(in crate::bridge) fn stats(&self) -> WorkerStats {
        let counts = &self.counts;
        let processes = counts.processes.lock();
        WorkerStats {
            processes: processes.unwrap_or_else(PoisonError::into_inner).clone(),
            killed: counts.killed.get(),
            lost: counts.lost.get(),
            calls_lost: counts.calls_lost.get(),
        }
    }
}

impl Drop for Roster {
    fn drop(&mut self) {
        if self.inbox.closed().is_none() {
            self.inbox.stop(std::time::Duration::ZERO);
        }
    }
}
