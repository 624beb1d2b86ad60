//! The lifecycle of workers, and the number of them.
//!
//! A worker is spawning until its process is up, then waits for the programs, loads them, and is
//! ready. It ends at once, or it retires first: it gets no more calls, and ends with its last.
//!
//! A recycled worker has reached a limit of its service. Another is started first, so that the pool
//! is at full number meanwhile, and one at a time, so that workers of one age are not all started
//! anew at once.
//!
//! Invariants:
//! 1. A worker that ends leaves that state by its exit only, and no phase follows an earlier one.
//! 2. While the end of a worker may be due to its start or to a load, and is not known yet, no other
//!    is started in its place or given what it may have ended of.
//! 3. A retiring worker with calls is killed only if all of them were to have ended.
//! 4. After a start that failed, none is tried before the pause is over; each failure in a row
//!    doubles it.

use std::{collections::BTreeMap, time::Duration};

use super::{
    phase::{LifecycleAction, OverdueLimits, STOP_MARGIN, WorkerLife, WorkerPhase, WorkerState},
    recycle::RecycleLimits,
    scheduler::WorkerLoad,
};

/// The first pause before a start that failed is tried again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A worker that lived as long did not end of its start.
const LONG_ENOUGH: Duration = Duration::from_secs(5);
/// Ticks between two readings of a worker's memory.
const MEMORY_EVERY: u32 = 10;

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
    /// The worker was killed, or ended by itself.
    Lost,
}

/// The lives of all workers.
pub(super) struct Lifecycle {
    wanted: usize,
    overdue: OverdueLimits,
    recycle: RecycleLimits,
    workers: BTreeMap<u64, WorkerLife>,
    /// Starts that failed in a row, and when to try again.
    failed_starts: u32,
    retry_at: Duration,
    /// When the workers that are left are killed, once the pool stops.
    kill_at: Option<Duration>,
}

impl Lifecycle {
    pub(super) const fn new(wanted: usize, overdue: OverdueLimits, recycle: RecycleLimits) -> Self {
        Self {
            wanted,
            overdue,
            recycle,
            workers: BTreeMap::new(),
            failed_starts: 0,
            retry_at: Duration::ZERO,
            kill_at: None,
        }
    }

    pub(super) const fn is_stopping(&self) -> bool {
        self.kill_at.is_some()
    }

    pub(super) const fn failed_starts(&self) -> u32 {
        self.failed_starts
    }

    pub(super) fn state(&self, worker: u64) -> Option<WorkerState> {
        Some(self.workers.get(&worker)?.state())
    }

    fn with_phase(&self, phase: WorkerPhase) -> impl Iterator<Item = (u64, &WorkerLife)> {
        let workers = self.workers.iter();
        let workers = workers.filter(move |(_, life)| life.phase == phase);
        workers.map(|(worker, life)| (*worker, life))
    }

    /// The workers that take calls, and whether each is about to be replaced by a fresh one.
    pub(super) fn ready(&self) -> impl Iterator<Item = (u64, bool)> {
        let ready = self.with_phase(WorkerPhase::Ready);
        ready.map(|(worker, life)| (worker, life.is_recycled))
    }

    pub(super) fn is_retiring(&self, worker: u64) -> bool {
        self.state(worker) == Some(WorkerState::Retiring)
    }

    pub(super) fn has_ready(&self) -> bool {
        self.ready().next().is_some()
    }

    /// Whether as many workers are ready as there are to be.
    pub(super) fn is_full(&self) -> bool {
        self.ready().count() >= self.wanted
    }

    /// The workers that have been given the programs, and are to be given more.
    pub(super) fn given_programs(&self) -> Vec<u64> {
        let workers = self.workers.iter();
        let given = workers
            .filter(|(_, life)| matches!(life.phase, WorkerPhase::Loading | WorkerPhase::Ready));
        given.map(|(worker, _)| *worker).collect()
    }

    /// The generation of the worker to start next, if one is missing. `is_loading` says whether a
    /// load waits for a worker's answer.
    pub(super) fn next_spawn(
        &self,
        now: Duration,
        serving: u64,
        replacing: Option<u64>,
        is_loading: impl Fn(u64) -> bool,
    ) -> Option<u64> {
        if self.is_stopping() || now < self.retry_at {
            return None;
        }
        let counts = |(worker, life): &(&u64, &WorkerLife)| {
            life.is_starting()
                || life.phase == WorkerPhase::Ready
                || life.awaits_exit(|| is_loading(**worker))
        };
        let counted = |generation| {
            let workers = self.workers.iter().filter(counts);
            workers
                .filter(|(_, life)| life.generation == generation)
                .count()
        };
        let recycled = self.ready().any(|(_, is_recycled)| is_recycled);
        if counted(serving) < self.wanted + usize::from(recycled) {
            return Some(serving);
        }
        replacing.filter(|generation| counted(*generation) < self.wanted)
    }

    pub(super) fn spawned(&mut self, worker: u64, generation: u64) {
        let life = WorkerLife::new(generation);
        self.workers.insert(worker, life);
    }

    /// A start has failed: the next one waits.
    pub(super) fn start_failed(&mut self, now: Duration) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failed_starts.min(16));
        self.failed_starts += 1;
        self.retry_at = now.saturating_add(pause.min(LONGEST_PAUSE));
    }

    /// The process of a worker is up.
    pub(super) fn came_up(&mut self, worker: u64) {
        if let Some(life) = self.workers.get_mut(&worker)
            && life.phase == WorkerPhase::Spawning
        {
            life.phase = WorkerPhase::Waiting;
        }
    }

    /// The workers to be given the programs now; they are loading from now on.
    pub(super) fn begin_loading(&mut self, is_loading: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut workers = self.workers.iter();
        if workers.any(|(worker, life)| life.awaits_exit(|| is_loading(*worker))) {
            return Vec::new();
        }
        let mut begun = Vec::new();
        for (worker, life) in &mut self.workers {
            if life.phase == WorkerPhase::Waiting {
                life.phase = WorkerPhase::Loading;
                begun.push(*worker);
            }
        }
        begun
    }

    /// A worker has all programs; true if it takes calls from now on.
    pub(super) fn loaded(&mut self, worker: u64, now: Duration) -> bool {
        let Some(life) = self.workers.get_mut(&worker) else {
            return false;
        };
        if life.phase != WorkerPhase::Loading {
            return false;
        }
        life.phase = WorkerPhase::Ready;
        life.ready_since = Some(now);
        self.retire_recycled();
        true
    }

    /// Retires a recycled worker whose successor is ready.
    fn retire_recycled(&mut self) {
        if self.ready().count() <= self.wanted {
            return;
        }
        let mut workers = self.workers.values_mut();
        let recycled = workers.find(|life| life.is_recycled && life.phase == WorkerPhase::Ready);
        if let Some(life) = recycled {
            life.phase = WorkerPhase::Retiring;
        }
    }

    /// Whether all workers of a generation that is to take over have all programs.
    pub(super) fn can_swap(&self, generation: u64, has_all: impl Fn(u64) -> bool) -> bool {
        let loading = self.with_phase(WorkerPhase::Loading);
        let new = loading.filter(|(_, life)| life.generation == generation);
        new.filter(|(worker, _)| has_all(*worker)).count() >= self.wanted
    }

    /// Has a generation take over; returns the workers to be discarded.
    pub(super) fn swap(&mut self, generation: u64, now: Duration) -> Vec<u64> {
        let mut discarded = Vec::new();
        for (worker, life) in &mut self.workers {
            if life.generation == generation && life.phase == WorkerPhase::Loading {
                life.phase = WorkerPhase::Ready;
                life.ready_since = Some(now);
            } else if life.phase == WorkerPhase::Ready {
                life.phase = WorkerPhase::Retiring;
            } else if life.is_starting() {
                discarded.push(*worker);
            }
        }
        discarded
    }

    /// A worker is not needed any more: its process is to be killed.
    pub(super) fn discard(&mut self, worker: u64, now: Duration) -> Option<LifecycleAction> {
        self.workers.get_mut(&worker)?.dismiss(now);
        Some(LifecycleAction::Kill { worker })
    }

    /// The connection to a worker is broken: its process is to be killed.
    pub(super) fn broken(
        &mut self,
        worker: u64,
        verdict: Option<String>,
    ) -> Option<LifecycleAction> {
        let life = self.workers.get_mut(&worker)?;
        let dismissed = life.dismissed();
        life.phase = WorkerPhase::Ending { dismissed };
        life.verdict = life.verdict.take().or(verdict);
        Some(LifecycleAction::Kill { worker })
    }

    /// A worker has exited with as many calls. `is_retried` says whether the pool starts another in
    /// its place, after a pause if the worker did not come to work.
    pub(super) fn exited(
        &mut self,
        worker: u64,
        calls: usize,
        is_retried: bool,
        now: Duration,
    ) -> Option<WorkerExit> {
        let life = self.workers.remove(&worker)?;
        let served = life.ready_since.is_some();
        let kind = if self.is_stopping() {
            WorkerExitKind::Stopped
        } else if life.dismissed().is_some() {
            WorkerExitKind::Dismissed { served }
        } else {
            let lived = life.ready_since.map(|since| now.saturating_sub(since));
            let came_to_work = lived.is_some_and(|lived| lived >= LONG_ENOUGH || calls > 0);
            if is_retried && !came_to_work {
                self.start_failed(now);
            } else if is_retried {
                self.failed_starts = 0;
            }
            WorkerExitKind::Lost
        };
        let verdict = life.verdict;
        Some(WorkerExit { verdict, kind })
    }

    /// Ends all workers: those that are up may end by themselves within `grace`.
    pub(super) fn stop(&mut self, grace: Duration, now: Duration) -> Vec<LifecycleAction> {
        let kill_at = now.saturating_add(grace).saturating_add(STOP_MARGIN);
        self.kill_at.get_or_insert(kill_at);
        let workers = self.workers.iter_mut();
        let actions = workers.map(|(&worker, life)| {
            if life.phase == WorkerPhase::Spawning {
                life.kill("the host was stopped");
                return LifecycleAction::Kill { worker };
            }
            let dismissed = life.dismissed();
            life.phase = WorkerPhase::Ending { dismissed };
            LifecycleAction::Stop { worker, grace }
        });
        actions.collect()
    }

    /// Looks at all workers. `load` tells what a worker has to do and whether its loop is blocked,
    /// `memory` reads its memory; while programs are replaced, no worker is recycled.
    pub(super) fn tick(
        &mut self,
        now: Duration,
        is_replacing: bool,
        load: impl Fn(u64) -> (WorkerLoad, bool),
        memory: impl Fn(u64) -> Option<u64>,
    ) -> Vec<LifecycleAction> {
        let mut actions = Vec::new();
        let kill_at = self.kill_at;
        for (&worker, life) in &mut self.workers {
            if let Some(kill_at) = kill_at {
                if kill_at <= now {
                    life.kill("it did not stop in time");
                    actions.push(LifecycleAction::Kill { worker });
                }
                continue;
            }
            let (load, is_blocked) = load(worker);
            actions.extend(life.tick(worker, now, &self.overdue, load, is_blocked));
            life.ticks = life.ticks.wrapping_add(1);
            if is_replacing || life.is_recycled || life.phase != WorkerPhase::Ready {
                continue;
            }
            let age = now.saturating_sub(life.ready_since.unwrap_or(now));
            let is_due = life.ticks.is_multiple_of(MEMORY_EVERY);
            let memory = || if is_due { memory(worker) } else { None };
            if let Some(why) = self.recycle.reason(age, load.given, memory) {
                life.is_recycled = true;
                actions.push(LifecycleAction::Recycle { worker, why });
            }
        }
        self.retire_recycled();
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: OverdueLimits = OverdueLimits {
        kill_after: Duration::from_secs(1),
        retire_after: Duration::from_secs(10),
    };

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn lifecycle(wanted: usize) -> Lifecycle {
        Lifecycle::new(wanted, LIMITS, RecycleLimits::default())
    }

    const fn never(_: u64) -> bool {
        false
    }

    fn missing(lifecycle: &Lifecycle, now: Duration) -> Option<u64> {
        lifecycle.next_spawn(now, 0, None, never)
    }

    /// Starts a worker until it is ready.
    fn ready(lifecycle: &mut Lifecycle, worker: u64, now: Duration) {
        lifecycle.spawned(worker, 0);
        lifecycle.came_up(worker);
        assert_eq!(lifecycle.begin_loading(never), [worker]);
        assert!(lifecycle.loaded(worker, now));
    }

    fn tick(lifecycle: &mut Lifecycle, now: Duration, load: WorkerLoad) -> Vec<LifecycleAction> {
        lifecycle.tick(now, false, |_| (load, false), |_| None)
    }

    fn calls(calls: usize, overdue: u64, all_overdue: bool) -> WorkerLoad {
        WorkerLoad {
            calls,
            given: calls as u64,
            overdue: (overdue > 0).then(|| secs(overdue)),
            all_overdue,
        }
    }

    fn lost(lifecycle: &mut Lifecycle, worker: u64, calls: usize, now: Duration) {
        let exit = lifecycle.exited(worker, calls, true, now).unwrap();
        assert_eq!(exit.kind, WorkerExitKind::Lost);
    }

    #[test]
    fn the_full_number_is_kept() {
        let mut lifecycle = lifecycle(2);
        assert_eq!(missing(&lifecycle, secs(0)), Some(0));
        ready(&mut lifecycle, 1, secs(0));
        assert!(!lifecycle.is_full());
        ready(&mut lifecycle, 2, secs(0));
        assert!(lifecycle.is_full());
        assert_eq!(missing(&lifecycle, secs(0)), None);
        lost(&mut lifecycle, 1, 0, secs(9));
        assert_eq!(missing(&lifecycle, secs(9)), Some(0));
    }

    #[test]
    fn each_start_that_fails_in_a_row_doubles_the_pause_up_to_its_longest() {
        let mut lifecycle = lifecycle(1);
        for (failures, pause) in [(1, 100), (2, 200), (3, 400)] {
            lifecycle.spawned(failures, 0);
            lost(&mut lifecycle, failures, 0, secs(failures));
            let pause = Duration::from_millis(pause);
            let before = pause - Duration::from_millis(1);
            assert_eq!(missing(&lifecycle, secs(failures) + before), None);
            assert_eq!(missing(&lifecycle, secs(failures) + pause), Some(0));
            assert_eq!(u64::from(lifecycle.failed_starts()), failures);
        }
        for _ in 0..40 {
            lifecycle.start_failed(secs(4));
        }
        assert_eq!(missing(&lifecycle, secs(14)), Some(0));
        // A worker that came to work, and had a call, ends the row.
        ready(&mut lifecycle, 9, secs(14));
        lost(&mut lifecycle, 9, 1, secs(14));
        assert_eq!(lifecycle.failed_starts(), 0);
    }

    #[test]
    fn no_other_is_started_in_the_place_of_a_worker_that_dies_while_it_loads() {
        let mut lifecycle = lifecycle(1);
        ready(&mut lifecycle, 1, secs(0));
        let kill = LifecycleAction::Kill { worker: 1 };
        assert_eq!(lifecycle.broken(1, None), Some(kill));
        let is_loading = |worker| worker == 1;
        assert_eq!(lifecycle.next_spawn(secs(0), 0, None, is_loading), None);
        // Another that is up is not given what it may have ended of.
        lifecycle.spawned(2, 0);
        lifecycle.came_up(2);
        assert!(lifecycle.begin_loading(is_loading).is_empty());
        lost(&mut lifecycle, 1, 0, secs(0));
        assert_eq!(lifecycle.begin_loading(never), [2]);
    }

    #[test]
    fn another_is_started_at_once_in_the_place_of_a_worker_that_loads_nothing() {
        let mut lifecycle = lifecycle(1);
        ready(&mut lifecycle, 1, secs(0));
        lifecycle.broken(1, Some("a frame without a header".into()));
        assert_eq!(missing(&lifecycle, secs(0)), Some(0));
        let exit = lifecycle.exited(1, 0, true, secs(0)).unwrap();
        assert_eq!(exit.verdict.unwrap(), "a frame without a header");
    }

    #[test]
    fn a_retiring_worker_ends_with_its_last_call() {
        let mut lifecycle = lifecycle(1);
        ready(&mut lifecycle, 1, secs(0));
        // One of its two calls has not stopped.
        assert_eq!(tick(&mut lifecycle, secs(9), calls(2, 11, false)), []);
        assert!(lifecycle.is_retiring(1) && !lifecycle.has_ready());
        assert_eq!(missing(&lifecycle, secs(9)), Some(0));
        assert_eq!(tick(&mut lifecycle, secs(60), calls(1, 0, false)), []);
        let stop = LifecycleAction::Stop {
            worker: 1,
            grace: Duration::ZERO,
        };
        assert_eq!(tick(&mut lifecycle, secs(60), calls(0, 0, true)), [stop]);
        assert_eq!(tick(&mut lifecycle, secs(60), calls(0, 0, true)), []);
        let kill = LifecycleAction::Kill { worker: 1 };
        assert_eq!(tick(&mut lifecycle, secs(61), calls(0, 0, true)), [kill]);
        let exit = lifecycle.exited(1, 0, true, secs(61)).unwrap();
        assert_eq!(exit.kind, WorkerExitKind::Dismissed { served: true });
        assert_eq!(lifecycle.failed_starts(), 0);
    }

    #[test]
    fn a_retiring_worker_is_killed_once_all_its_calls_are_overdue() {
        let mut lifecycle = lifecycle(1);
        ready(&mut lifecycle, 1, secs(0));
        assert_eq!(tick(&mut lifecycle, secs(20), calls(2, 11, false)), []);
        let kill = LifecycleAction::KillOverdue { worker: 1 };
        assert_eq!(tick(&mut lifecycle, secs(21), calls(1, 12, true)), [kill]);
        let exit = lifecycle.exited(1, 1, true, secs(21)).unwrap();
        assert_eq!(exit.kind, WorkerExitKind::Lost);
        assert!(exit.verdict.unwrap().contains("did not"));
    }

    #[test]
    fn a_worker_that_an_overdue_call_blocks_is_killed_sooner() {
        let mut lifecycle = lifecycle(1);
        ready(&mut lifecycle, 1, secs(0));
        let blocked = |overdue| move |_| (calls(2, overdue, false), true);
        assert_eq!(lifecycle.tick(secs(5), false, blocked(1), |_| None), []);
        let kill = LifecycleAction::KillOverdue { worker: 1 };
        assert_eq!(lifecycle.tick(secs(6), false, blocked(2), |_| None), [kill]);
        assert_eq!(lifecycle.tick(secs(7), false, blocked(3), |_| None), []);
    }

    #[test]
    fn workers_of_one_age_are_recycled_one_at_a_time_and_after_a_successor_is_ready() {
        let recycle = RecycleLimits {
            max_calls: Some(1),
            ..RecycleLimits::default()
        };
        let mut lifecycle = Lifecycle::new(2, LIMITS, recycle);
        ready(&mut lifecycle, 1, secs(0));
        ready(&mut lifecycle, 2, secs(0));
        let load = |worker| (calls(usize::from(worker < 3), 0, false), false);
        let actions = lifecycle.tick(secs(1), true, load, |_| None);
        assert_eq!(
            actions,
            [],
            "while programs are replaced, all are about to be"
        );
        assert_eq!(lifecycle.tick(secs(1), false, load, |_| None).len(), 2);
        assert_eq!(lifecycle.ready().count(), 2);
        for (successor, old) in [(3, 1), (4, 2)] {
            assert_eq!(missing(&lifecycle, secs(1)), Some(0));
            lifecycle.spawned(successor, 0);
            assert_eq!(missing(&lifecycle, secs(1)), None);
            lifecycle.came_up(successor);
            lifecycle.begin_loading(never);
            lifecycle.loaded(successor, secs(1));
            assert!(lifecycle.is_retiring(old));
            assert_eq!(lifecycle.ready().count(), 2);
        }
        assert_eq!(missing(&lifecycle, secs(1)), None);
    }

    #[test]
    fn memory_is_read_at_every_tenth_tick() {
        let recycle = RecycleLimits {
            max_memory: Some(1 << 20),
            ..RecycleLimits::default()
        };
        let mut lifecycle = Lifecycle::new(1, LIMITS, recycle);
        ready(&mut lifecycle, 1, secs(0));
        let reads = std::cell::Cell::new(0);
        let memory = |_| {
            reads.set(reads.get() + 1);
            Some(2 << 20)
        };
        let load = |_| (calls(1, 0, false), false);
        for _ in 0..9 {
            assert_eq!(lifecycle.tick(secs(1), false, load, memory), []);
        }
        assert_eq!(reads.get(), 0);
        assert_eq!(lifecycle.tick(secs(1), false, load, memory).len(), 1);
    }

    #[test]
    fn a_replacement_has_its_own_full_number_and_takes_over_at_once() {
        let mut lifecycle = lifecycle(1);
        ready(&mut lifecycle, 1, secs(0));
        let next = |lifecycle: &Lifecycle| lifecycle.next_spawn(secs(0), 0, Some(5), never);
        assert_eq!(next(&lifecycle), Some(5));
        lifecycle.spawned(2, 5);
        assert_eq!(next(&lifecycle), None);
        assert!(!lifecycle.can_swap(5, |_| true), "it is not up");
        lifecycle.came_up(2);
        lifecycle.begin_loading(never);
        assert!(!lifecycle.can_swap(5, never) && lifecycle.can_swap(5, |_| true));
        lifecycle.spawned(3, 0);
        assert_eq!(lifecycle.swap(5, secs(0)), [3]);
        assert_eq!(lifecycle.ready().collect::<Vec<_>>(), [(2, false)]);
        assert!(lifecycle.is_retiring(1));
        // A worker that is discarded is not lost.
        lifecycle.discard(3, secs(0));
        let exit = lifecycle.exited(3, 0, true, secs(0)).unwrap();
        assert_eq!(exit.kind, WorkerExitKind::Dismissed { served: false });
    }

    #[test]
    fn a_pool_that_stops_starts_no_worker_and_kills_those_that_are_left() {
        let mut lifecycle = lifecycle(3);
        ready(&mut lifecycle, 1, secs(0));
        lifecycle.spawned(2, 0);
        let actions = lifecycle.stop(secs(2), secs(10));
        let stop = LifecycleAction::Stop {
            worker: 1,
            grace: secs(2),
        };
        let kill = |worker| LifecycleAction::Kill { worker };
        assert_eq!(actions, [stop, kill(2)]);
        assert_eq!(missing(&lifecycle, secs(10)), None);
        assert_eq!(tick(&mut lifecycle, secs(12), calls(1, 0, false)), []);
        let late = tick(&mut lifecycle, secs(13), calls(1, 0, false));
        assert_eq!(late, [kill(1), kill(2)]);
        let exit = lifecycle.exited(1, 1, true, secs(13)).unwrap();
        assert_eq!(exit.kind, WorkerExitKind::Stopped);
    }
}
