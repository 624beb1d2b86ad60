use std::{error::Error as _, future::pending, io, time::Duration};

use tokio::time::{Instant, advance, sleep};
use tokio_test::{assert_pending, assert_ready, task};
use tokio_util::sync::CancellationToken;
use tower::{BoxError, ServiceExt};
use tower_dspy::{
    Cancel, Cancelled, Cause, Classify, Elapsed, Error, ErrorKind, LmError, Scope, Stage,
    patterns::*,
};

use super::support::*;

/// An operation that answers after `delay`, and records how it is dropped otherwise.
fn after(
    record: &Record,
    delay: Duration,
) -> impl Future<Output = Result<&'static str, BoxError>> + use<> {
    record.answers(delay).oneshot(request())
}

#[tokio::test(start_paused = true)]
async fn elapsed_means_stopped_and_an_answer_wins_the_tie() {
    for (delay, answers) in [(999, true), (1_000, true), (1_001, false)] {
        let record = Record::default();
        let (took, result) = timed(timeout(secs(1), after(&record, millis(delay)))).await;
        assert_eq!(took, millis(delay.min(1_000)));
        if answers {
            assert_eq!(result.unwrap(), "answer");
            assert!(record.drops().is_empty());
        } else {
            let expected = Elapsed::new(Scope::Attempt, Stage::Running, secs(1));
            assert!(matches!(result, Err(TimeoutError::Elapsed(e)) if e == expected));
            assert_eq!(record.drops(), [Cause::Elapsed]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_operation_is_gone_before_the_answer_though_the_future_lives() {
    let record = Record::default();
    let mut call = task::spawn(timeout(secs(1), after(&record, secs(9))));
    assert_pending!(call.poll());
    advance(secs(1)).await;
    assert!(call.is_woken());
    assert!(assert_ready!(call.poll()).is_err());
    assert_eq!(record.drops(), [Cause::Elapsed]);
    // Polled against the rules, it does not answer twice.
    assert_pending!(call.poll());
}

#[tokio::test(start_paused = true)]
async fn a_limit_starts_with_the_first_poll_and_any_duration_is_one() {
    let record = Record::default();
    let late = timeout(secs(2), after(&record, secs(1)));
    advance(secs(60)).await;
    assert_eq!(late.await.unwrap(), "answer");
    assert_eq!(timeout(Duration::MAX, async { 1 }).await, Ok(1));
    assert_eq!(timeout(Duration::ZERO, async { 1 }).await, Ok(1));
    let result = timeout(Duration::ZERO, pending::<()>()).await;
    assert!(matches!(result, Err(TimeoutError::Elapsed(_))));
}

#[tokio::test(start_paused = true)]
async fn results_and_plain_values_are_answers_in_one_layer() {
    let failed = timeout(secs(1), async { Err::<(), _>("no") }).await;
    assert_eq!(failed, Err(TimeoutError::Failed("no")));
    assert_eq!(timeout(secs(1), async { Ok::<_, ()>(1) }).await, Ok(1));

    assert_eq!(timeout(secs(1), async { "s" }).await, Ok("s"));
    assert_eq!(
        timeout(secs(1), async { String::new() }).await,
        Ok(String::new())
    );
    assert_eq!(
        timeout(secs(1), async { Some(vec![1]) }).await,
        Ok(Some(vec![1]))
    );
    assert_eq!(timeout(secs(1), async {}).await, Ok(()));

    struct Own;
    assert!(timeout(secs(1), infallible(async { Own })).await.is_ok());
    let kept = timeout(secs(1), infallible(async { Err::<(), _>(1) })).await;
    assert_eq!(kept, Ok(Err(1)));
}

#[tokio::test(start_paused = true)]
async fn a_token_stops_the_operation_at_once_whoever_cancels_it() {
    let record = Record::default();
    let token = CancellationToken::new();
    let canceller = token.clone();
    tokio::spawn(async move {
        sleep(secs(10)).await;
        canceller.cancel();
    });
    let (took, result) = timed(run_cancellable(token, after(&record, secs(60)))).await;
    assert_eq!(took, secs(10));
    let expected = Cancelled::new(Cause::Caller);
    assert!(matches!(result, Err(TimeoutError::Cancelled(e)) if e == expected));
    assert_eq!(record.drops(), [Cause::Caller]);

    let record = Record::default();
    let cancel = Cancel::new();
    let mut call = task::spawn(run_with_cancellation(&cancel, after(&record, secs(60))));
    assert_pending!(call.poll());
    cancel.cancel(Cause::ClientGone);
    let result = assert_ready!(call.poll());
    assert!(matches!(result, Err(TimeoutError::Cancelled(e)) if e.cause() == Cause::ClientGone));
    assert_eq!(record.drops(), [Cause::ClientGone]);
}

#[tokio::test(start_paused = true)]
async fn what_is_cancelled_before_it_is_polled_does_not_start() {
    let record = Record::default();
    let token = CancellationToken::new();
    let call = run_cancellable(&token, after(&record, secs(0)));
    token.cancel();
    assert!(matches!(call.await, Err(TimeoutError::Cancelled(_))));
    assert_eq!(record.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_wins_the_tie_with_a_token() {
    let record = Record::default();
    let token = CancellationToken::new();
    let mut call = task::spawn(run_cancellable(token.clone(), after(&record, secs(1))));
    assert_pending!(call.poll());
    advance(secs(1)).await;
    token.cancel();
    assert_eq!(assert_ready!(call.poll()).unwrap(), "answer");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_drops_the_operation_and_cancels_nothing() {
    let record = Record::default();
    let token = CancellationToken::new();
    let mut call = task::spawn(run_cancellable(token.clone(), after(&record, secs(1))));
    assert_pending!(call.poll());
    drop(call);
    assert_eq!(record.drops(), [Cause::Dropped]);
    assert!(!token.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn only_slow_attempts_are_tried_again_and_each_is_stopped_first() {
    let record = Record::default();
    let slow = || after(&record, secs(60));
    let (took, result) = timed(retry_on_timeout(slow, secs(5), 2)).await;
    assert!(matches!(result, Err(TimeoutError::Elapsed(e)) if e.limit() == secs(5)));
    assert_eq!((took, record.calls()), (secs(15), 3));
    assert_eq!(record.drops(), [Cause::Elapsed; 3]);

    let mut calls = 0;
    let fails = || {
        calls += 1;
        async { Err::<(), _>("no") }
    };
    let result = retry_on_timeout(fails, secs(5), 9).await;
    assert_eq!((result, calls), (Err(TimeoutError::Failed("no")), 1));

    // In time at the third attempt; a closure may borrow and change what is around it.
    let mut delays = [9, 9, 1].into_iter();
    let (took, result) = timed(retry_on_timeout(
        || {
            let delay = secs(delays.next().unwrap());
            async move { sleep(delay).await }
        },
        secs(5),
        2,
    ))
    .await;
    assert_eq!((took, result), (secs(11), Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_limit_within_a_limit_is_told_apart_and_flattened() {
    let nested = |inner, outer| timeout(secs(outer), timeout(secs(inner), pending::<()>()));
    let result = nested(1, 2).await;
    assert!(matches!(
        result,
        Err(TimeoutError::Failed(TimeoutError::Elapsed(_)))
    ));
    let result = nested(2, 1).await;
    assert!(matches!(&result, Err(TimeoutError::Elapsed(_))));
    let flat = nested(2, 1)
        .await
        .map_err(TimeoutError::<TimeoutError>::flatten);
    assert!(matches!(flat, Err(TimeoutError::Elapsed(e)) if e.limit() == secs(1)));
}

#[test]
fn an_error_says_what_happened_and_has_a_kind_through_wrappers() {
    let elapsed = Elapsed::new(Scope::Attempt, Stage::Running, secs(5));
    let deadline = Elapsed::new(Scope::Deadline, Stage::Running, secs(5));
    let errors: [(TimeoutError<Error>, ErrorKind, &str); 4] = [
        (
            elapsed.clone().into(),
            ErrorKind::Elapsed,
            "the operation was stopped at its limit",
        ),
        (
            deadline.into(),
            ErrorKind::Deadline,
            "the operation was stopped at the deadline",
        ),
        (
            Cancelled::new(Cause::Shutdown).into(),
            ErrorKind::ShuttingDown,
            "the operation was cancelled",
        ),
        (
            TimeoutError::Failed(LmError::new("LMError", "busy", Some(503), None).into()),
            ErrorKind::LmUnavailable,
            "the operation failed: the LM call failed with LMError (HTTP 503): busy",
        ),
    ];
    for (error, kind, text) in errors {
        assert_eq!(error.kind(), kind);
        assert_eq!(error.to_string(), text);
        if kind != ErrorKind::LmUnavailable {
            assert!(error.source().is_some());
            assert_eq!(ErrorKind::of(&error), kind);
        }
    }
    let error = TimeoutError::Failed(io::Error::other("disk")).map_failed(|e| e.to_string());
    assert_eq!(error, TimeoutError::Failed("disk".to_owned()));
    assert_eq!(error.clone().into_failed().as_deref(), Some("disk"));
    assert!(error.elapsed().is_none());
    let boxed: BoxError = TimeoutError::<BoxError>::Elapsed(elapsed).flatten();
    assert_eq!(boxed.kind(), ErrorKind::Elapsed);
}

#[tokio::test(start_paused = true)]
async fn the_futures_can_be_spawned() {
    let start = Instant::now();
    let one = tokio::spawn(timeout(secs(1), pending::<()>()));
    let two = tokio::spawn(retry_on_timeout(pending::<()>, secs(1), 1));
    let three = tokio::spawn(run_cancellable(Cancel::none(), sleep(secs(1))));
    assert!(one.await.unwrap().is_err() && two.await.unwrap().is_err());
    assert!(three.await.unwrap().is_ok());
    assert_eq!(start.elapsed(), secs(2));
}
