use std::future::pending;

use tokio::time::{advance, sleep};
use tokio_test::{assert_pending, assert_ready, task};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_dspy::{
    Cancel, Cause, Deadline, Scope, Stage,
    patterns::{DeadlineExecutor, TimeoutError},
};

use super::support::*;

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_types, reason = "it is what is converted")]
async fn a_deadline_comes_from_a_duration_or_any_instant() {
    let left = |executor: DeadlineExecutor, least| {
        let left = executor.remaining();
        left > secs(least) && left <= secs(30)
    };
    assert!(left(DeadlineExecutor::within(secs(30)), 29));
    assert!(left(DeadlineExecutor::new(Deadline::within(secs(30))), 29));
    let of_tokio = tokio::time::Instant::now() + secs(30);
    assert!(left(DeadlineExecutor::new(of_tokio), 29));
    // Paused time is ahead of the system's, which goes on between two readings of it.
    advance(secs(3600)).await;
    let of_std = std::time::Instant::now() + secs(30);
    assert!(left(DeadlineExecutor::new(of_std), 10));
    let past = DeadlineExecutor::new(std::time::Instant::now());
    assert!(past.deadline().is_past());
}

#[tokio::test(start_paused = true)]
async fn operations_share_the_deadline_and_late_ones_do_not_start() {
    let record = Record::default();
    let executor = DeadlineExecutor::within(secs(30));
    let run = |delay| executor.execute(record.answers(secs(delay)).oneshot(request()));
    assert_eq!(run(10).await.unwrap(), "answer");
    assert_eq!(run(20).await.unwrap(), "answer");
    assert_eq!(record.calls(), 2);
    let error = run(0).await.unwrap_err();
    let TimeoutError::Deadline(elapsed) = error else {
        panic!("{error:?}")
    };
    assert_eq!(elapsed.stage(), Stage::BeforeStart);
    assert_eq!(record.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_smaller_of_the_limit_and_what_is_left_holds() {
    let executor = DeadlineExecutor::within(secs(10));
    for (limit, took, scope) in [
        (4, 4, Scope::Attempt),
        (4, 4, Scope::Attempt),
        (2, 2, Scope::Deadline),
        (4, 0, Scope::Deadline),
    ] {
        let operation = executor.execute_with_timeout(secs(limit), pending::<()>());
        let (time, result) = timed(operation).await;
        assert_eq!(time, secs(took));
        let error = result.unwrap_err();
        assert_eq!(error.elapsed().unwrap().scope(), scope);
        let named = matches!(error, TimeoutError::Deadline(_));
        assert_eq!(named, scope == Scope::Deadline);
    }
}

#[tokio::test(start_paused = true)]
async fn all_end_at_the_deadline_and_what_hangs_on_the_executor_too() {
    let record = Record::default();
    let executor = DeadlineExecutor::within(secs(5));
    let context = executor.session().context();
    let operations: Vec<_> = (0..20)
        .map(|_| tokio::spawn(executor.execute(record.answers(secs(60)).oneshot(request()))))
        .collect();
    sleep(secs(1)).await;
    assert_eq!(executor.running_operations().len(), 20);
    let (took, ()) = timed(executor.idle()).await;
    assert_eq!(took, secs(4));
    for operation in operations {
        let error = operation.await.unwrap().unwrap_err();
        assert!(matches!(error, TimeoutError::Deadline(e) if e.limit() == secs(5)));
    }
    assert_eq!(record.drops().len(), 20);
    assert_eq!(context.cancel.cause(), Some(Cause::Deadline));
    assert_eq!(context.deadline, Some(executor.deadline()));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_that_another_operation_saw_first_is_a_deadline_here_too() {
    let executor = DeadlineExecutor::within(secs(5));
    let mut seen_late = task::spawn(executor.execute(pending::<()>()));
    assert_pending!(seen_late.poll());
    let first = executor.execute(pending::<()>()).await;
    assert!(matches!(first, Err(TimeoutError::Deadline(_))));
    // The node is cancelled, and rings before the clock.
    let error = assert_ready!(seen_late.poll()).unwrap_err();
    assert!(matches!(error, TimeoutError::Deadline(e) if e.limit() == secs(5)));
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_cancels_at_the_same_deadline_is_a_deadline_here_too() {
    let cancel = Cancel::new();
    let executor = DeadlineExecutor::within(secs(5)).with_cancel(&cancel);
    let mut running = task::spawn(executor.execute(pending::<()>()));
    assert_pending!(running.poll());
    advance(secs(5)).await;
    cancel.cancel(Cause::Deadline);
    let error = assert_ready!(running.poll()).unwrap_err();
    assert!(matches!(error, TimeoutError::Deadline(e) if e.limit() == secs(5)));
}

#[tokio::test(start_paused = true)]
async fn cancelling_all_stops_what_runs_and_refuses_the_rest() {
    let record = Record::default();
    let executor = DeadlineExecutor::within(secs(30));
    let operation = || executor.execute(record.answers(secs(20)).oneshot(request()));
    let (one, two) = (tokio::spawn(operation()), tokio::spawn(operation()));
    let unpolled = operation();
    sleep(secs(3)).await;
    let running = executor.running_operations();
    assert_eq!(running.len(), 2);
    assert!(running[0].id() < running[1].id());
    assert_eq!(running[0].elapsed(), secs(3));

    assert_eq!(executor.cancel_all(), 2);
    let (took, ()) = timed(executor.idle()).await;
    assert_eq!(took, secs(0));
    for error in [
        one.await.unwrap().unwrap_err(),
        two.await.unwrap().unwrap_err(),
        unpolled.await.unwrap_err(),
        operation().await.unwrap_err(),
    ] {
        assert!(matches!(error, TimeoutError::Cancelled(e) if e.cause() == Cause::Caller));
    }
    assert_eq!(record.calls(), 2);
    assert_eq!(record.drops(), [Cause::Caller; 2]);
    assert!(executor.running_operations().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_token_from_outside_stops_all_and_is_left_alone() {
    let token = CancellationToken::new();
    let executor = DeadlineExecutor::within(secs(2)).with_cancel(&token);
    executor.execute(pending::<()>()).await.unwrap_err();
    executor.cancel_all();
    assert!(!token.is_cancelled());

    let executor = DeadlineExecutor::within(secs(2)).with_cancel(&token);
    let mut operation = task::spawn(executor.execute(pending::<()>()));
    assert_pending!(operation.poll());
    token.cancel();
    let result = assert_ready!(operation.poll());
    assert!(matches!(result, Err(TimeoutError::Cancelled(_))));
}

#[tokio::test(start_paused = true)]
async fn an_operation_is_listed_until_it_is_gone() {
    let executor = DeadlineExecutor::within(secs(30));
    let watcher = executor.clone();
    struct Gone(DeadlineExecutor);
    impl Drop for Gone {
        fn drop(&mut self) {
            assert_eq!(self.0.running_operations().len(), 1);
        }
    }
    let held = |executor: &DeadlineExecutor| {
        let gone = Gone(executor.clone());
        async move {
            let _gone = gone;
            pending::<()>().await;
        }
    };
    executor
        .execute_with_timeout(secs(1), held(&watcher))
        .await
        .unwrap_err();
    assert!(executor.running_operations().is_empty());
    let mut dropped = task::spawn(executor.execute(held(&watcher)));
    assert_pending!(dropped.poll());
    drop(dropped);
    assert!(executor.running_operations().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_step_saves_is_shared_by_the_later_ones() {
    let executor = DeadlineExecutor::within(secs(30));
    let step = |share| executor.execute_with_timeout(share, pending::<()>());
    assert_eq!(executor.allot(3), secs(10));
    sleep(secs(2)).await;
    assert_eq!(executor.allot(2), secs(14));
    let (took, result) = timed(step(executor.allot(2))).await;
    assert_eq!(took, secs(14));
    assert!(matches!(result, Err(TimeoutError::Elapsed(_))));
    // The last share is the deadline itself; no step counts as one.
    assert_eq!(executor.allot(0), secs(14));
    let result = step(executor.allot(1)).await;
    assert!(matches!(result, Err(TimeoutError::Deadline(_))));
    assert_eq!(executor.allot(5), secs(0));
}

#[tokio::test(start_paused = true)]
async fn the_earlier_of_an_operations_deadline_and_the_executors_holds() {
    let executor = DeadlineExecutor::within(secs(10));
    let until = |limit| Deadline::within(secs(limit));
    for (limit, took, scope) in [
        (4, 4, Scope::Attempt),
        (4, 4, Scope::Attempt),
        // Where both coincide, it is the executor's that is named.
        (2, 2, Scope::Deadline),
        (4, 0, Scope::Deadline),
    ] {
        let operation = executor.execute_with_deadline(until(limit), pending::<()>());
        let (time, result) = timed(operation).await;
        assert_eq!(time, secs(took));
        let error = result.unwrap_err();
        assert_eq!(error.elapsed().unwrap().scope(), scope);
        let named = matches!(error, TimeoutError::Deadline(_));
        assert_eq!(named, scope == Scope::Deadline);
    }
    let executor = DeadlineExecutor::within(secs(10));
    let in_time = executor.execute_with_deadline(until(4), async { "answer" });
    assert_eq!(in_time.await, Ok("answer"));
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_types, reason = "it is what is converted")]
async fn an_operations_deadline_is_any_instant_and_counts_from_when_it_was_given() {
    let executor = DeadlineExecutor::within(secs(600));
    let of_tokio = tokio::time::Instant::now() + secs(4);
    let operation = executor.execute_with_deadline(of_tokio, pending::<()>());
    // Unlike a limit, which starts with the first poll.
    advance(secs(3)).await;
    let (took, result) = timed(operation).await;
    assert_eq!(took, secs(1));
    assert!(matches!(result, Err(TimeoutError::Elapsed(_))));
    // Paused time is ahead of the system's, which goes on between two readings of it.
    advance(secs(60)).await;
    let of_std = std::time::Instant::now() + secs(30);
    let (took, result) = timed(executor.execute_with_deadline(of_std, pending::<()>())).await;
    assert!(took > secs(10) && took <= secs(30), "{took:?}");
    assert!(matches!(result, Err(TimeoutError::Elapsed(_))));
}

#[tokio::test(start_paused = true)]
async fn an_operations_deadline_ends_that_operation_alone() {
    let record = Record::default();
    let executor = DeadlineExecutor::within(secs(60));
    let other = tokio::spawn(executor.execute(sleep(secs(9))));
    let call = record.answers(secs(30)).oneshot(request());
    let result = executor
        .execute_with_deadline(Deadline::within(secs(2)), call)
        .await;
    assert!(matches!(result, Err(TimeoutError::Elapsed(e)) if e.limit() == secs(2)));
    assert_eq!(record.drops(), [Cause::Elapsed]);
    assert_eq!(executor.running_operations().len(), 1);
    assert_eq!(other.await.unwrap(), Ok(()));

    // One that has passed lets nothing start, and later operations run.
    let past = Deadline::within(secs(0));
    let call = record.answers(secs(0)).oneshot(request());
    let error = executor
        .execute_with_deadline(past, call)
        .await
        .unwrap_err();
    assert!(matches!(&error, TimeoutError::Elapsed(e) if e.stage() == Stage::BeforeStart));
    assert_eq!(record.calls(), 1);
    assert_eq!(executor.execute(async { 1 }).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn an_operations_own_deadline_that_passed_first_is_named_after_the_executors_too() {
    let executor = DeadlineExecutor::within(secs(4));
    let own = Deadline::within(secs(2));
    let result = executor.execute(pending::<()>()).await;
    assert!(matches!(result, Err(TimeoutError::Deadline(_))));
    let result = executor.execute_with_deadline(own, async {}).await;
    let Err(TimeoutError::Elapsed(elapsed)) = result else {
        panic!("{result:?}")
    };
    assert_eq!(elapsed.stage(), Stage::BeforeStart);
}

#[tokio::test(start_paused = true)]
async fn a_stall_over_two_limits_leaves_each_operation_its_own() {
    let executor = DeadlineExecutor::within(secs(4));
    let mut until_deadline = task::spawn(executor.execute(pending::<()>()));
    let limited = executor.execute_with_timeout(secs(2), pending::<()>());
    let mut limited = task::spawn(limited);
    assert_pending!(until_deadline.poll());
    assert_pending!(limited.poll());
    advance(secs(5)).await;
    let result = assert_ready!(until_deadline.poll());
    assert!(matches!(result, Err(TimeoutError::Deadline(_))));
    let result = assert_ready!(limited.poll());
    let Err(TimeoutError::Elapsed(elapsed)) = result else {
        panic!("{result:?}")
    };
    assert_eq!(elapsed.limit(), secs(2));
}
