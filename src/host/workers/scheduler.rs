//! The assignment of calls to workers.
//!
//! A call goes to the worker with the fewest calls, of those that have the program, are not blocked
//! and are not about to be replaced. It is not tower's `Balance`, although each worker could be a
//! service with a `Load`: `Balance` compares two at random, which suits many endpoints whose load is
//! a guess, and asks for readiness before it knows the request, so that a worker without this one
//! program would count as not ready for any. Here the count of each worker is at hand and exact.
//!
//! Invariants:
//! 1. A call is in one worker, from `assign` until it is removed: by `finish`, once it is both
//!    resolved and settled, or by the exit of its worker.
//! 2. An exit returns each call of the worker, once.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::numbers::WorkerId;

/// A ready worker, as a candidate for a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) worker: WorkerId,
    pub(super) has_program: bool,
    pub(super) is_blocked: bool,
    /// Another worker is about to take its place.
    pub(super) is_recycled: bool,
}

/// What a worker has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Workload {
    pub(super) calls: usize,
    /// Calls that it was ever given.
    pub(super) given: u64,
    /// For how long a call was to have ended, and has not: the longest.
    pub(super) overdue: Option<Duration>,
    /// Each of its calls was to have ended.
    pub(super) all_overdue: bool,
}

/// A call that its worker's exit has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LostCall<C> {
    pub(super) call: C,
    pub(super) is_resolved: bool,
}

/// The calls of all workers.
pub(super) struct Scheduler<C> {
    workers: HashMap<WorkerId, ScheduledWorker<C>>,
}

struct ScheduledWorker<C> {
    calls: BTreeMap<u64, ScheduledCall<C>>,
    given: u64,
}

struct ScheduledCall<C> {
    call: C,
    /// It has its outcome.
    resolved: bool,
    /// All its work has ended.
    settled: bool,
    /// Since when it was to have ended.
    overdue_since: Option<Duration>,
}

impl<C> Default for Scheduler<C> {
    fn default() -> Self {
        Self {
            workers: HashMap::new(),
        }
    }
}

impl<C> Scheduler<C> {
    /// The worker for a call: one that lacks the program comes last, before it a blocked one, before
    /// that a recycled one.
    pub(super) fn pick(&self, candidates: impl Iterator<Item = Candidate>) -> Option<WorkerId> {
        let picked = candidates.min_by_key(|candidate| {
            let calls = self.workers.get(&candidate.worker);
            (
                !candidate.has_program,
                candidate.is_blocked,
                candidate.is_recycled,
                calls.map_or(0, |worker| worker.calls.len()),
                candidate.worker,
            )
        });
        picked.map(|candidate| candidate.worker)
    }

    /// Puts a call into a worker.
    pub(super) fn assign(&mut self, number: u64, worker: WorkerId, call: C) {
        let new = || ScheduledWorker {
            calls: BTreeMap::new(),
            given: 0,
        };
        let calls = self.workers.entry(worker).or_insert_with(new);
        calls.given += 1;
        let scheduled = ScheduledCall {
            call,
            resolved: false,
            settled: false,
            overdue_since: None,
        };
        calls.calls.insert(number, scheduled);
    }

    /// The worker that has a call.
    pub(super) fn worker_of(&self, number: u64) -> Option<WorkerId> {
        let mut workers = self.workers.iter();
        let (worker, _) = workers.find(|(_, worker)| worker.calls.contains_key(&number))?;
        Some(*worker)
    }

    /// A call of this worker.
    pub(super) fn get(&self, worker: WorkerId, number: u64) -> Option<&C> {
        let call = self.workers.get(&worker)?.calls.get(&number)?;
        Some(&call.call)
    }

    fn get_mut(&mut self, worker: WorkerId, number: u64) -> Option<&mut ScheduledCall<C>> {
        self.workers.get_mut(&worker)?.calls.get_mut(&number)
    }

    /// All calls of all workers.
    pub(super) fn calls(&self) -> impl Iterator<Item = &C> {
        let workers = self.workers.values();
        workers.flat_map(|worker| worker.calls.values().map(|call| &call.call))
    }

    /// The call was told to end at `now`.
    pub(super) fn cancelled(&mut self, worker: WorkerId, number: u64, now: Duration) {
        if let Some(call) = self.get_mut(worker, number) {
            call.overdue_since.get_or_insert(now);
        }
    }

    /// The call has its outcome. Work that goes on was told to end.
    pub(super) fn resolved(&mut self, worker: WorkerId, number: u64, now: Duration) {
        if let Some(call) = self.get_mut(worker, number) {
            call.resolved = true;
            call.overdue_since.get_or_insert(now);
            if call.settled {
                self.finish(worker, number);
            }
        }
    }

    /// All work of the call has ended.
    pub(super) fn settled(&mut self, worker: WorkerId, number: u64) {
        if let Some(call) = self.get_mut(worker, number) {
            call.settled = true;
            if call.resolved {
                self.finish(worker, number);
            }
        }
    }

    /// Takes a call out of its worker.
    fn finish(&mut self, worker: WorkerId, number: u64) -> Option<C> {
        let call = self.workers.get_mut(&worker)?.calls.remove(&number)?;
        Some(call.call)
    }

    /// Takes all calls out of a worker that has exited.
    pub(super) fn exited(&mut self, worker: WorkerId) -> Vec<LostCall<C>> {
        let worker = self.workers.remove(&worker);
        let calls = worker.into_iter().flat_map(|of| of.calls.into_values());
        let lost = calls.map(|scheduled| LostCall {
            call: scheduled.call,
            is_resolved: scheduled.resolved,
        });
        lost.collect()
    }

    pub(super) fn workload(&self, worker: WorkerId, now: Duration) -> Workload {
        let Some(worker) = self.workers.get(&worker) else {
            return Workload::default();
        };
        let overdue = || worker.calls.values().map(|call| call.overdue_since);
        let since = overdue().flatten().min();
        Workload {
            calls: worker.calls.len(),
            given: worker.given,
            overdue: since.map(|since| now.saturating_sub(since)),
            all_overdue: overdue().all(|since| since.is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn candidate(worker: u64) -> Candidate {
        Candidate {
            worker: WorkerId(worker),
            has_program: true,
            is_blocked: false,
            is_recycled: false,
        }
    }

    fn picked(scheduler: &Scheduler<&'static str>, among: &[Candidate]) -> Option<u64> {
        let picked = scheduler.pick(among.iter().copied());
        picked.map(|worker| worker.0)
    }

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_worker_with_the_fewest_calls_gets_the_next() {
        let mut scheduler = Scheduler::default();
        assert_eq!(picked(&scheduler, &[]), None);
        let both = [candidate(1), candidate(2)];
        assert_eq!(picked(&scheduler, &both), Some(1));
        scheduler.assign(10, WorkerId(1), "a");
        assert_eq!(picked(&scheduler, &both), Some(2));
        scheduler.assign(11, WorkerId(2), "b");
        scheduler.assign(12, WorkerId(2), "c");
        assert_eq!(picked(&scheduler, &both), Some(1));
    }

    #[test]
    fn a_worker_that_is_recycled_or_blocked_or_lacks_the_program_comes_later_in_this_order() {
        let mut scheduler = Scheduler::default();
        let recycled = Candidate {
            is_recycled: true,
            ..candidate(1)
        };
        let blocked = Candidate {
            is_blocked: true,
            ..candidate(2)
        };
        let lacking = Candidate {
            has_program: false,
            ..candidate(3)
        };
        for call in 0..5 {
            scheduler.assign(call, WorkerId(4), "busy");
        }
        let all = [lacking, blocked, recycled, candidate(4)];
        assert_eq!(picked(&scheduler, &all), Some(4));
        assert_eq!(picked(&scheduler, &all[..3]), Some(1));
        assert_eq!(picked(&scheduler, &all[..2]), Some(2));
        assert_eq!(picked(&scheduler, &all[..1]), Some(3));
    }

    #[test]
    fn a_call_leaves_its_worker_once_it_is_both_resolved_and_settled() {
        for resolved_first in [true, false] {
            let mut scheduler = Scheduler::default();
            scheduler.assign(1, WorkerId(7), "call");
            for resolves in [resolved_first, !resolved_first] {
                assert_eq!(scheduler.worker_of(1), Some(WorkerId(7)));
                assert_eq!(scheduler.get(WorkerId(7), 1), Some(&"call"));
                if resolves {
                    scheduler.resolved(WorkerId(7), 1, at(0));
                } else {
                    scheduler.settled(WorkerId(7), 1);
                }
            }
            assert_eq!(scheduler.worker_of(1), None);
            assert_eq!(scheduler.workload(WorkerId(7), at(0)).calls, 0);
            assert_eq!(scheduler.workload(WorkerId(7), at(0)).given, 1);
        }
    }

    #[test]
    fn a_message_of_another_worker_moves_no_call() {
        let mut scheduler = Scheduler::default();
        scheduler.assign(1, WorkerId(7), "call");
        assert!(
            scheduler.finish(WorkerId(8), 1).is_none() && scheduler.get(WorkerId(8), 1).is_none()
        );
        scheduler.resolved(WorkerId(8), 1, at(0));
        scheduler.settled(WorkerId(8), 1);
        assert_eq!(scheduler.worker_of(1), Some(WorkerId(7)));
    }

    #[test]
    fn an_exit_returns_each_call_of_the_worker_once() {
        let mut scheduler = Scheduler::default();
        scheduler.assign(1, WorkerId(7), "resolved");
        scheduler.assign(2, WorkerId(7), "open");
        scheduler.assign(3, WorkerId(8), "elsewhere");
        scheduler.resolved(WorkerId(7), 1, at(0));
        let lost = |call, is_resolved| LostCall { call, is_resolved };
        let both = [lost("resolved", true), lost("open", false)];
        assert_eq!(scheduler.exited(WorkerId(7)), both);
        assert_eq!(scheduler.exited(WorkerId(7)), []);
        assert_eq!(
            (scheduler.worker_of(1), scheduler.worker_of(2)),
            (None, None)
        );
        assert_eq!(scheduler.worker_of(3), Some(WorkerId(8)));
        assert_eq!(scheduler.calls().collect::<Vec<_>>(), [&"elsewhere"]);
    }

    #[test]
    fn a_call_is_overdue_from_the_first_time_it_was_told_to_end() {
        let mut scheduler = Scheduler::default();
        scheduler.assign(1, WorkerId(7), "cancelled");
        scheduler.assign(2, WorkerId(7), "runs");
        assert_eq!(scheduler.workload(WorkerId(7), at(9)).overdue, None);
        scheduler.cancelled(WorkerId(7), 1, at(10));
        scheduler.cancelled(WorkerId(7), 1, at(20));
        let workload = scheduler.workload(WorkerId(7), at(35));
        assert_eq!(
            (workload.overdue, workload.all_overdue),
            (Some(at(25)), false)
        );
        scheduler.finish(WorkerId(7), 2);
        assert!(scheduler.workload(WorkerId(7), at(35)).all_overdue);
    }
}
