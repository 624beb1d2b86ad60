//! Readings of a pool of workers.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{life::WorkerState, recycle::resident_memory};
use crate::host::core::health::Health;

/// A reading of a pool of workers, from [`Host::worker_stats`](crate::Host::worker_stats).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// The processes there are, the oldest first.
    pub processes: Vec<WorkerProcess>,
    /// The process that workers are forked from, if there is one; see [`Workers::fork`](crate::Workers::fork).
    pub zygote: Option<u32>,
    /// Starts in a row that came to nothing. Each makes the pause before the next one longer, up to
    /// 10 seconds.
    pub failed_starts: u32,
    /// Workers ever killed, because a call that was to stop did not.
    pub killed: u64,
    /// Workers ever lost: killed, or ended by themselves. Those that were to end are not counted.
    pub lost: u64,
    /// Workers that were replaced by fresh ones and ended when they had no more calls.
    pub recycled: u64,
    /// The last workers that ended while the pool went on, the latest last: at most
    /// [`MOST_ENDED`](Self::MOST_ENDED).
    pub ended: VecDeque<EndedWorker>,
    /// Calls that lost their worker, each answered with [`Lost`](crate::Lost), or as cancelled if
    /// it was.
    pub calls_lost: u64,
}

impl WorkerStats {
    /// How many workers `ended` keeps.
    pub const MOST_ENDED: usize = 8;

    /// A worker has ended.
    pub(super) fn push_ended(&mut self, worker: EndedWorker) {
        if self.ended.len() == Self::MOST_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(worker);
    }

    /// How many workers take calls.
    #[must_use]
    pub fn ready(&self) -> usize {
        let ready = |process: &&WorkerProcess| process.state == WorkerState::Ready;
        self.processes.iter().filter(ready).count()
    }
}

/// A worker process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerProcess {
    /// Its process id.
    pub pid: u32,
    /// How far it is.
    pub state: WorkerState,
    /// How its loop is, by its own heartbeat.
    pub health: Health,
    /// Calls that it has.
    pub in_flight: usize,
    /// Calls that it was ever given.
    pub calls: u64,
    /// How late the heartbeat of its loop is; zero while it starts.
    pub loop_lag: Duration,
    /// When its start began.
    pub(super) since: Instant,
}

impl WorkerProcess {
    /// How long ago its start began.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Its resident memory now, in bytes, as Linux tells it; `None` if the process has ended.
    #[must_use]
    pub fn resident_memory(&self) -> Option<u64> {
        resident_memory(self.pid)
    }
}

/// A worker that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndedWorker {
    /// Its process id, if it had one.
    pub pid: Option<u32>,
    /// When it ended.
    pub at: Instant,
    /// Why, in words.
    pub reason: String,
}

/// The readings of a pool, which its thread updates.
#[derive(Debug, Default)]
pub(super) struct SharedStats(Mutex<WorkerStats>);

impl SharedStats {
    pub(super) fn update(&self, update: impl FnOnce(&mut WorkerStats)) {
        update(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn read(&self) -> WorkerStats {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
