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

fn missing(lifecycle: &Lifecycle, now: Duration) -> Option<Generation> {
    lifecycle.next_spawn(now, Generation(0), None)
}

/// Starts a worker until it is ready.
fn ready(lifecycle: &mut Lifecycle, worker: u64, now: Duration) {
    lifecycle.spawned(WorkerId(worker), Generation(0));
    assert!(lifecycle.came_up(WorkerId(worker)));
    assert!(lifecycle.loaded(WorkerId(worker), now));
}

fn tick(lifecycle: &mut Lifecycle, now: Duration, load: Workload) -> Vec<WorkerAction> {
    lifecycle.tick(now, false, |_| (load, Duration::ZERO), |_| None)
}

fn calls(calls: usize, overdue: u64, all_overdue: bool) -> Workload {
    Workload {
        calls,
        given: calls as u64,
        overdue: (overdue > 0).then(|| secs(overdue)),
        all_overdue,
    }
}

fn lost(lifecycle: &mut Lifecycle, worker: u64, given: u64, now: Duration) {
    let exit = lifecycle
        .exited(WorkerId(worker), given, true, now)
        .unwrap();
    assert_eq!(exit.kind, WorkerExitKind::Lost { overdue: false });
}

#[test]
fn the_full_number_is_kept() {
    let mut lifecycle = lifecycle(2);
    assert_eq!(missing(&lifecycle, secs(0)), Some(Generation(0)));
    ready(&mut lifecycle, 1, secs(0));
    assert!(!lifecycle.is_full());
    ready(&mut lifecycle, 2, secs(0));
    assert!(lifecycle.is_full());
    assert_eq!(missing(&lifecycle, secs(0)), None);
    lost(&mut lifecycle, 1, 0, secs(9));
    assert_eq!(missing(&lifecycle, secs(9)), Some(Generation(0)));
}

#[test]
fn each_start_that_fails_in_a_row_doubles_the_pause_up_to_its_longest() {
    let mut lifecycle = lifecycle(1);
    for (failures, pause) in [(1, 100), (2, 200), (3, 400)] {
        lifecycle.spawned(WorkerId(failures), Generation(0));
        lost(&mut lifecycle, failures, 0, secs(failures));
        let pause = Duration::from_millis(pause);
        let before = pause - Duration::from_millis(1);
        assert_eq!(missing(&lifecycle, secs(failures) + before), None);
        assert_eq!(
            missing(&lifecycle, secs(failures) + pause),
            Some(Generation(0))
        );
        assert_eq!(u64::from(lifecycle.failed_starts()), failures);
    }
    for _ in 0..40 {
        lifecycle.start_failed(secs(4));
    }
    let before = secs(14) - Duration::from_millis(1);
    assert_eq!(missing(&lifecycle, before), None);
    assert_eq!(missing(&lifecycle, secs(14)), Some(Generation(0)));
}

#[test]
fn a_worker_that_was_given_a_call_ends_the_row_of_failed_starts_and_its_pause() {
    let mut lifecycle = lifecycle(2);
    ready(&mut lifecycle, 1, secs(0));
    for worker in [2, 3, 4] {
        lifecycle.spawned(WorkerId(worker), Generation(0));
        lost(&mut lifecycle, worker, 0, secs(1));
    }
    assert_eq!(lifecycle.failed_starts(), 3);
    assert_eq!(missing(&lifecycle, secs(1)), None);
    // Its call has been answered long before it is killed.
    lost(&mut lifecycle, 1, 1, secs(1));
    assert_eq!(lifecycle.failed_starts(), 0);
    assert_eq!(missing(&lifecycle, secs(1)), Some(Generation(0)));
}

#[test]
fn workers_that_end_of_one_cause_double_the_pause_once() {
    let mut lifecycle = lifecycle(3);
    for worker in 1..=3 {
        lifecycle.spawned(WorkerId(worker), Generation(0));
    }
    for worker in 1..=3 {
        lost(&mut lifecycle, worker, 0, secs(worker));
        assert_eq!(lifecycle.failed_starts(), 1);
    }
    lifecycle.spawned(WorkerId(4), Generation(0));
    lost(&mut lifecycle, 4, 0, secs(4));
    assert_eq!(lifecycle.failed_starts(), 2);
}

#[test]
fn no_other_is_started_in_the_place_of_a_worker_before_its_exit() {
    let mut lifecycle = lifecycle(1);
    ready(&mut lifecycle, 1, secs(0));
    let verdict = "a frame without a header";
    lifecycle.broken(WorkerId(1), Some(verdict.into()), secs(5));
    assert_eq!(missing(&lifecycle, secs(9)), None);
    assert!(!lifecycle.came_up(WorkerId(1)) && !lifecycle.has_ready());
    let exit = lifecycle.exited(WorkerId(1), 0, true, secs(9)).unwrap();
    assert_eq!(exit.verdict.unwrap(), verdict);
    assert_eq!(missing(&lifecycle, secs(9)), Some(Generation(0)));
}

#[test]
fn a_worker_that_does_not_exit_loses_its_place_some_seconds_after_it_was_killed() {
    let mut lifecycle = lifecycle(1);
    ready(&mut lifecycle, 1, secs(0));
    lifecycle.broken(WorkerId(1), None, secs(10));
    lifecycle.broken(WorkerId(1), None, secs(14));
    assert_eq!(missing(&lifecycle, secs(15)), None);
    assert_eq!(missing(&lifecycle, secs(16)), Some(Generation(0)));
}

#[test]
fn a_retired_worker_that_is_killed_or_breaks_takes_no_place_again() {
    for is_killed in [true, false] {
        let mut lifecycle = lifecycle(1);
        ready(&mut lifecycle, 1, secs(0));
        assert_eq!(tick(&mut lifecycle, secs(20), calls(2, 11, false)), []);
        if is_killed {
            let kill = (WorkerId(1), LifecycleAction::KillOverdue);
            assert_eq!(tick(&mut lifecycle, secs(21), calls(1, 12, true)), [kill]);
        } else {
            lifecycle.broken(WorkerId(1), None, secs(21));
        }
        assert_eq!(lifecycle.state(WorkerId(1)), Some(WorkerState::Ending));
        assert_eq!(missing(&lifecycle, secs(21)), Some(Generation(0)));
    }
}

#[test]
fn a_retiring_worker_ends_with_its_last_call() {
    let mut lifecycle = lifecycle(1);
    ready(&mut lifecycle, 1, secs(0));
    // One of its two calls has not stopped.
    assert_eq!(tick(&mut lifecycle, secs(9), calls(2, 11, false)), []);
    assert!(lifecycle.is_retiring(WorkerId(1)) && !lifecycle.has_ready());
    assert_eq!(missing(&lifecycle, secs(9)), Some(Generation(0)));
    assert_eq!(tick(&mut lifecycle, secs(60), calls(1, 0, false)), []);
    let stop = (
        WorkerId(1),
        LifecycleAction::Stop {
            grace: Duration::ZERO,
        },
    );
    assert_eq!(tick(&mut lifecycle, secs(60), calls(0, 0, true)), [stop]);
    assert_eq!(tick(&mut lifecycle, secs(60), calls(0, 0, true)), []);
    let kill = (WorkerId(1), LifecycleAction::Kill);
    assert_eq!(tick(&mut lifecycle, secs(62), calls(0, 0, true)), [kill]);
    let exit = lifecycle.exited(WorkerId(1), 0, true, secs(62)).unwrap();
    assert_eq!(exit.kind, WorkerExitKind::Dismissed { served: true });
    assert_eq!(lifecycle.failed_starts(), 0);
}

#[test]
fn a_retiring_worker_is_killed_once_all_its_calls_are_overdue() {
    let mut lifecycle = lifecycle(1);
    ready(&mut lifecycle, 1, secs(0));
    assert_eq!(tick(&mut lifecycle, secs(20), calls(2, 11, false)), []);
    let kill = (WorkerId(1), LifecycleAction::KillOverdue);
    assert_eq!(tick(&mut lifecycle, secs(21), calls(1, 12, true)), [kill]);
    let exit = lifecycle.exited(WorkerId(1), 1, true, secs(21)).unwrap();
    assert_eq!(exit.kind, WorkerExitKind::Lost { overdue: true });
    assert!(exit.verdict.unwrap().contains("did not"));
}

#[test]
fn a_worker_that_an_overdue_call_blocks_is_killed_sooner() {
    let mut lifecycle = lifecycle(1);
    ready(&mut lifecycle, 1, secs(0));
    let blocked = |overdue, lag| move |_| (calls(2, overdue, false), secs(lag));
    assert_eq!(lifecycle.tick(secs(5), false, blocked(1, 4), |_| None), []);
    let kill = (WorkerId(1), LifecycleAction::KillOverdue);
    let actions = lifecycle.tick(secs(6), false, blocked(2, 5), |_| None);
    assert_eq!(actions, [kill]);
    assert_eq!(lifecycle.tick(secs(7), false, blocked(3, 6), |_| None), []);
}

#[test]
fn a_loop_that_is_late_for_a_moment_costs_no_call_beside_an_overdue_one() {
    let mut lifecycle = lifecycle(1);
    ready(&mut lifecycle, 1, secs(0));
    let late = |_| (calls(2, 5, false), LIMITS.kill_after);
    assert_eq!(lifecycle.tick(secs(5), false, late, |_| None), []);
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
    let load = |worker| {
        (
            calls(usize::from(worker < WorkerId(3)), 0, false),
            Duration::ZERO,
        )
    };
    let actions = lifecycle.tick(secs(1), true, load, |_| None);
    assert_eq!(
        actions,
        [],
        "while programs are replaced, all are about to be"
    );
    assert_eq!(lifecycle.tick(secs(1), false, load, |_| None).len(), 2);
    assert_eq!(lifecycle.ready().count(), 2);
    for (successor, old) in [(3, 1), (4, 2)] {
        assert_eq!(missing(&lifecycle, secs(1)), Some(Generation(0)));
        lifecycle.spawned(WorkerId(successor), Generation(0));
        assert_eq!(missing(&lifecycle, secs(1)), None);
        lifecycle.came_up(WorkerId(successor));
        lifecycle.loaded(WorkerId(successor), secs(1));
        assert!(lifecycle.is_retiring(WorkerId(old)));
        assert_eq!(lifecycle.ready().count(), 2);
    }
    assert_eq!(missing(&lifecycle, secs(1)), None);
}

#[test]
fn a_worker_whose_memory_is_over_the_limit_is_recycled() {
    let recycle = RecycleLimits {
        max_memory: Some(1 << 20),
        ..RecycleLimits::default()
    };
    let mut lifecycle = Lifecycle::new(1, LIMITS, recycle);
    ready(&mut lifecycle, 1, secs(0));
    let load = |_| (calls(1, 0, false), Duration::ZERO);
    assert_eq!(lifecycle.tick(secs(1), false, load, |_| Some(1 << 20)), []);
    assert_eq!(
        lifecycle
            .tick(secs(1), false, load, |_| Some(2 << 20))
            .len(),
        1
    );
    assert_eq!(lifecycle.tick(secs(1), false, load, |_| Some(2 << 20)), []);
}

#[test]
fn a_replacement_has_its_own_full_number_and_takes_over_at_once() {
    let mut lifecycle = lifecycle(1);
    ready(&mut lifecycle, 1, secs(0));
    let next =
        |lifecycle: &Lifecycle| lifecycle.next_spawn(secs(0), Generation(0), Some(Generation(5)));
    assert_eq!(next(&lifecycle), Some(Generation(5)));
    lifecycle.spawned(WorkerId(2), Generation(5));
    assert_eq!(next(&lifecycle), None);
    assert!(!lifecycle.can_swap(Generation(5), |_| true), "it is not up");
    lifecycle.came_up(WorkerId(2));
    assert!(!lifecycle.can_swap(Generation(5), |_| false));
    assert!(lifecycle.can_swap(Generation(5), |_| true));
    lifecycle.spawned(WorkerId(3), Generation(0));
    assert_eq!(lifecycle.swap(Generation(5), secs(0)), [WorkerId(3)]);
    assert_eq!(
        lifecycle.ready().collect::<Vec<_>>(),
        [(WorkerId(2), false)]
    );
    assert!(lifecycle.is_retiring(WorkerId(1)));
    // A worker that is discarded is not lost.
    lifecycle.discard(WorkerId(3), secs(0));
    let exit = lifecycle.exited(WorkerId(3), 0, true, secs(0)).unwrap();
    assert_eq!(exit.kind, WorkerExitKind::Dismissed { served: false });
}

#[test]
fn a_pool_that_stops_starts_no_worker_and_kills_those_that_are_left() {
    let mut lifecycle = lifecycle(3);
    ready(&mut lifecycle, 1, secs(0));
    lifecycle.spawned(WorkerId(2), Generation(0));
    let actions = lifecycle.stop(secs(2), secs(10));
    let stop = (WorkerId(1), LifecycleAction::Stop { grace: secs(2) });
    let kill = |worker| (WorkerId(worker), LifecycleAction::Kill);
    assert_eq!(actions, [stop, kill(2)]);
    assert_eq!(missing(&lifecycle, secs(10)), None);
    assert_eq!(tick(&mut lifecycle, secs(12), calls(1, 0, false)), []);
    let late = tick(&mut lifecycle, secs(13), calls(1, 0, false));
    assert_eq!(late, [kill(1), kill(2)]);
    let exit = lifecycle.exited(WorkerId(1), 1, true, secs(13)).unwrap();
    assert_eq!(exit.kind, WorkerExitKind::Stopped);
}

#[test]
fn of_two_stops_the_one_that_kills_sooner_counts() {
    for graces in [[secs(60), secs(1)], [secs(1), secs(60)]] {
        let mut lifecycle = lifecycle(1);
        ready(&mut lifecycle, 1, secs(0));
        for grace in graces {
            lifecycle.stop(grace, secs(10));
        }
        assert_eq!(tick(&mut lifecycle, secs(11), calls(1, 0, false)), []);
        let kill = (WorkerId(1), LifecycleAction::Kill);
        assert_eq!(tick(&mut lifecycle, secs(12), calls(1, 0, false)), [kill]);
    }
}
