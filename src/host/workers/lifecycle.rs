//! The lifecycle of workers, and the number of them.
//!
//! A worker is spawning until it has imported DSPy, then loads the programs, and is ready. It ends at
//! once, or it retires first: it gets no more calls, and ends with its last.
//!
//! A recycled worker has reached a limit of its service. Another is started first, so that the pool
//! is at full number meanwhile, and one at a time, so that workers of one age are not all started
//! anew at once.
//!
//! Invariants:
//! 1. A worker that ends leaves that state by its exit only, and no state follows an earlier one.
//! 2. A worker that did not retire first keeps its place until its exit: the next worker is given no
//!    load that may have ended it. A worker that does not exit loses its place after five seconds.
//! 3. A retiring worker with calls is killed only if all of them were to have ended.
//! 4. After a start that failed, none is tried before the pause is over; each failure in a row
//!    doubles it. Workers that were started before the failure and end as well are no further one.
//!
//! The ends of a worker. Each has its state become `Ending`, except an exit that is reported before
//! the end of the socket:
//!
//! | decided by | mark | kind of the exit | counted as |
//! |---|---|---|---|
//! | `stop`: the pool stops | none, or a verdict | `Stopped` | nothing |
//! | `tick`: it retires and has no call left | dismissed | `Dismissed` | recycled |
//! | `discard`: its replacement failed, or took over | dismissed | `Dismissed` | recycled if it served |
//! | `tick`: its calls are overdue | verdict | `Lost` | killed and lost |
//! | `broken`: a frame is malformed, or a limit of time has passed | verdict | `Lost` | lost |
//! | `broken`: its socket is closed, mostly by its exit | none | `Lost` | lost |
//! | none of these: its exit comes first | none | `Lost` | lost |
//!
//! A worker that is lost before it came to work is a failed start as well.

use std::{collections::BTreeMap, mem, time::Duration};

use super::{
    backoff::Backoff,
    life::{
        LifecycleAction, OverdueLimits, WORKER_STOP_MARGIN, WorkerAction, WorkerLife, WorkerState,
    },
    numbers::{Generation, WorkerId},
    recycle::RecycleLimits,
    scheduler::Workload,
};

/// A worker that lived as long did not end of its start.
const LONG_ENOUGH: Duration = Duration::from_secs(5);

/// The end of a worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WorkerExit {
    /// Why it was ended, if the pool knows.
    pub(super) verdict: Option<String>,
    pub(super) kind: WorkerExitKind,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum WorkerExitKind {
    /// The pool stops.
    Stopped,
    /// The pool had the worker end.
    Dismissed { served: bool },
    /// The worker was killed, for its calls if they were overdue, or ended by itself.
    Lost { overdue: bool },
}

/// The lives of all workers.
pub(super) struct Lifecycle {
    wanted: usize,
    overdue: OverdueLimits,
    recycle: RecycleLimits,
    workers: BTreeMap<WorkerId, WorkerLife>,
    /// Of the starts that failed.
    backoff: Backoff,
    /// When the workers that are left are killed, once the pool stops.
    kill_at: Option<Duration>,
}

impl Lifecycle {
    pub(super) fn new(wanted: usize, overdue: OverdueLimits, recycle: RecycleLimits) -> Self {
        Self {
            wanted,
            overdue,
            recycle,
            workers: BTreeMap::new(),
            backoff: Backoff::default(),
            kill_at: None,
        }
    }

    pub(super) const fn is_stopping(&self) -> bool {
        self.kill_at.is_some()
    }

    pub(super) const fn failed_starts(&self) -> u32 {
        self.backoff.failures()
    }

    pub(super) fn state(&self, worker: WorkerId) -> Option<WorkerState> {
        Some(self.workers.get(&worker)?.state)
    }

    /// The workers that take calls, and whether each is about to be replaced by a fresh one.
    pub(super) fn ready(&self) -> impl Iterator<Item = (WorkerId, bool)> {
        let workers = self.workers.iter();
        let ready = workers.filter(|(_, life)| life.state == WorkerState::Ready);
        ready.map(|(worker, life)| (*worker, life.is_recycled))
    }

    pub(super) fn is_retiring(&self, worker: WorkerId) -> bool {
        self.state(worker) == Some(WorkerState::Retiring)
    }

    /// Whether it has not imported DSPy yet.
    pub(super) fn is_importing(&self, worker: WorkerId) -> bool {
        let life = self.workers.get(&worker);
        life.is_some_and(|life| life.state == WorkerState::Starting && !life.is_up)
    }

    pub(super) fn is_ending(&self, worker: WorkerId) -> bool {
        self.state(worker) == Some(WorkerState::Ending)
    }

    pub(super) fn has_ready(&self) -> bool {
        self.ready().next().is_some()
    }

    /// Whether as many workers are ready as there are to be.
    pub(super) fn is_full(&self) -> bool {
        self.ready().count() >= self.wanted
    }

    /// The workers that have been given the programs, and are to be given more.
    pub(super) fn given_programs(&self) -> Vec<WorkerId> {
        let workers = self.workers.iter();
        let given =
            workers.filter(|(_, life)| life.is_loading() || life.state == WorkerState::Ready);
        given.map(|(worker, _)| *worker).collect()
    }

    /// The generation of the worker to start next, if one is missing.
    pub(super) fn next_spawn(
        &self,
        now: Duration,
        serving: Generation,
        replacing: Option<Generation>,
    ) -> Option<Generation> {
        if self.is_stopping() || !self.backoff.is_over(now) {
            return None;
        }
        let counted = |generation| {
            let workers = self.workers.values();
            let of_it = workers.filter(|life| life.generation == generation);
            of_it.filter(|life| life.has_place(now)).count()
        };
        let recycled = self.ready().any(|(_, is_recycled)| is_recycled);
        if counted(serving) < self.wanted + usize::from(recycled) {
            return Some(serving);
        }
        replacing.filter(|generation| counted(*generation) < self.wanted)
    }

    pub(super) fn spawned(&mut self, worker: WorkerId, generation: Generation) {
        let life = WorkerLife::new(generation, self.failed_starts());
        self.workers.insert(worker, life);
    }

    /// A start has failed: the next one waits.
    pub(super) fn start_failed(&mut self, now: Duration) {
        self.backoff.failed(now);
    }

    /// A worker has imported DSPy; true if it is to load the programs now.
    pub(super) fn came_up(&mut self, worker: WorkerId) -> bool {
        let life = self.workers.get_mut(&worker);
        let life = life.filter(|life| life.state == WorkerState::Starting);
        life.is_some_and(|life| !mem::replace(&mut life.is_up, true))
    }

    /// A worker has all programs; true if it takes calls from now on.
    pub(super) fn loaded(&mut self, worker: WorkerId, now: Duration) -> bool {
        let life = self.workers.get_mut(&worker);
        let Some(life) = life.filter(|life| life.is_loading()) else {
            return false;
        };
        life.serve(now);
        self.retire_recycled();
        true
    }

    /// Retires a recycled worker whose successor is ready.
    fn retire_recycled(&mut self) {
        if self.ready().count() <= self.wanted {
            return;
        }
        let mut workers = self.workers.values_mut();
        let recycled = workers.find(|life| life.is_recycled && life.state == WorkerState::Ready);
        if let Some(life) = recycled {
            life.retire();
        }
    }

    /// Whether all workers of a generation that is to take over have all programs.
    pub(super) fn can_swap(
        &self,
        generation: Generation,
        has_all: impl Fn(WorkerId) -> bool,
    ) -> bool {
        let workers = self.workers.iter();
        let new = workers.filter(|(_, life)| life.generation == generation && life.is_loading());
        new.filter(|(worker, _)| has_all(**worker)).count() >= self.wanted
    }

    /// Has a generation take over; returns the workers to be discarded.
    pub(super) fn swap(&mut self, generation: Generation, now: Duration) -> Vec<WorkerId> {
        let mut discarded = Vec::new();
        for (worker, life) in &mut self.workers {
            if life.generation == generation && life.is_loading() {
                life.serve(now);
            } else if life.state == WorkerState::Ready {
                life.retire();
            } else if life.state == WorkerState::Starting {
                discarded.push(*worker);
            }
        }
        discarded
    }

    /// A worker is not needed any more; the caller kills its process.
    pub(super) fn discard(&mut self, worker: WorkerId, now: Duration) {
        if let Some(life) = self.workers.get_mut(&worker) {
            life.dismiss(now);
        }
    }

    /// The connection to a worker is broken; the caller kills its process.
    pub(super) fn broken(&mut self, worker: WorkerId, verdict: Option<String>, now: Duration) {
        if let Some(life) = self.workers.get_mut(&worker) {
            life.end(now, verdict);
        }
    }

    /// A worker has exited that was ever given as many calls. `counts_as_start` says whether the pool
    /// starts another in its place, after a pause if the worker did not come to work.
    pub(super) fn exited(
        &mut self,
        worker: WorkerId,
        given: u64,
        counts_as_start: bool,
        now: Duration,
    ) -> Option<WorkerExit> {
        let life = self.workers.remove(&worker)?;
        let served = life.ready_since.is_some();
        let kind = if self.is_stopping() {
            WorkerExitKind::Stopped
        } else if life.dismissed.is_some() {
            WorkerExitKind::Dismissed { served }
        } else {
            let lived = life.ready_since.map(|since| now.saturating_sub(since));
            let came_to_work = lived.is_some_and(|lived| lived >= LONG_ENOUGH || given > 0);
            // A worker spawned before the last failure may have ended of the same cause.
            let is_counted = life.failed_starts < self.failed_starts();
            if counts_as_start && came_to_work {
                self.backoff = Backoff::default();
            } else if counts_as_start && !is_counted {
                self.start_failed(now);
            }
            WorkerExitKind::Lost {
                overdue: life.is_overdue,
            }
        };
        let recycled_for = life.recycled_for.filter(|_| life.dismissed.is_some());
        let verdict = life.verdict.or(recycled_for);
        Some(WorkerExit { verdict, kind })
    }

    /// Ends all workers: those that are up may end by themselves within `grace`.
    pub(super) fn stop(&mut self, grace: Duration, now: Duration) -> Vec<WorkerAction> {
        let kill_at = now.saturating_add(grace).saturating_add(WORKER_STOP_MARGIN);
        let before = self.kill_at.unwrap_or(kill_at);
        self.kill_at = Some(before.min(kill_at));
        let workers = self.workers.iter_mut();
        let actions = workers.map(|(&worker, life)| {
            if !life.is_up {
                life.end(now, Some("the host was stopped".into()));
                return (worker, LifecycleAction::Kill);
            }
            life.end(now, None);
            (worker, LifecycleAction::Stop { grace })
        });
        actions.collect()
    }

    /// Looks at all workers. `workload` tells what a worker has to do and for how long its loop has been
    /// blocked, `memory` reads its memory; while programs are replaced, no worker is recycled.
    pub(super) fn tick(
        &mut self,
        now: Duration,
        is_replacing: bool,
        workload: impl Fn(WorkerId) -> (Workload, Duration),
        memory: impl Fn(WorkerId) -> Option<u64>,
    ) -> Vec<WorkerAction> {
        let mut actions = Vec::new();
        let kill_at = self.kill_at;
        for (&worker, life) in &mut self.workers {
            if let Some(kill_at) = kill_at {
                if kill_at <= now {
                    life.end(now, Some("it did not stop in time".into()));
                    actions.push((worker, LifecycleAction::Kill));
                }
                continue;
            }
            let (workload, blocked_for) = workload(worker);
            let action = life.tick(now, &self.overdue, workload, blocked_for);
            actions.extend(action.map(|action| (worker, action)));
            if is_replacing || life.is_recycled || life.state != WorkerState::Ready {
                continue;
            }
            let age = now.saturating_sub(life.ready_since.unwrap_or(now));
            let memory = || memory(worker);
            if let Some(why) = self.recycle.reason(age, workload.given, memory) {
                life.is_recycled = true;
                life.recycled_for = Some(why.clone());
                actions.push((worker, LifecycleAction::Recycle { why }));
            }
        }
        self.retire_recycled();
        actions
    }
}

#[cfg(test)]
mod tests;
