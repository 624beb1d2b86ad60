//! Workers that have served long enough: another takes the place of each, and it ends when its calls
//! have.
//!
//! The other comes first, so that the pool is at full strength meanwhile, and one at a time, so that
//! workers of one age do not all start anew at once.

use std::{fs, time::Duration};

use super::{WorkerState, pool::Pool, worker::Worker};
use crate::host::core::clock;

/// Ticks from one look at how much memory a worker has to the next.
const LOOK_EVERY: u32 = 10;

/// How long a worker may serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wear {
    /// Resident, in bytes.
    pub(super) max_memory: Option<u64>,
    pub(super) max_calls: Option<u64>,
    pub(super) max_age: Option<Duration>,
}

impl Wear {
    /// Why a worker has served long enough, if it has.
    fn of(&self, worker: &mut Worker) -> Option<String> {
        let age = clock::now().saturating_sub(worker.ready_since);
        if self.max_age.is_some_and(|max| age >= max) {
            return Some(format!("its age of {age:?} is over the limit"));
        }
        if self.max_calls.is_some_and(|max| worker.given >= max) {
            return Some(format!("it was given {} calls", worker.given));
        }
        let max = self.max_memory?;
        // One that has done nothing is as small as the next one would be.
        if worker.given == 0 || !worker.looks.is_multiple_of(LOOK_EVERY) {
            return None;
        }
        let memory = resident(worker.process.pid()?)?;
        (memory > max).then(|| format!("its {} MiB of memory are over the limit", memory >> 20))
    }
}

/// The resident memory of a process, in bytes.
fn resident(pid: u32) -> Option<u64> {
    let sizes = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = sizes.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

impl Pool {
    /// Finds those that have served long enough.
    pub(super) fn look_for_wear(&mut self) {
        if self.replacements.current.is_some() {
            return; // all are about to be replaced
        }
        let ready = |worker: &&mut Worker| worker.state == WorkerState::Ready && !worker.worn;
        for worker in self.workers.values_mut().filter(ready) {
            if let Some(why) = self.wear.of(worker) {
                tracing::info!(
                    target: "tower_dspy",
                    pid = worker.process.pid(),
                    why,
                    "a worker is replaced by a fresh one"
                );
                worker.worn = true;
            }
        }
    }

    /// How many workers there are to be, with the one that is to take another's place.
    pub(super) fn wanted_now(&self) -> usize {
        let worn = |worker: &Worker| worker.worn && worker.state == WorkerState::Ready;
        self.wanted + usize::from(self.workers.values().any(worn))
    }

    /// Takes a worker out of service that another has come for.
    pub(super) fn relieve(&mut self) {
        let ready = |worker: &&mut Worker| worker.state == WorkerState::Ready;
        let there = self.workers.values_mut().filter(ready).count();
        if there > self.wanted {
            let mut ready = self.workers.values_mut().filter(ready);
            if let Some(worker) = ready.find(|worker| worker.worn) {
                worker.state = WorkerState::Retiring;
            }
        }
    }
}
