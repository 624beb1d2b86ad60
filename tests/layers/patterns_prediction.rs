use std::{future::pending, time::Duration};

use tokio::time::{advance, sleep};
use tokio_test::{assert_pending, assert_ready, task};
use tokio_util::sync::CancellationToken;
use tower::{BoxError, ServiceExt};
use tower_dspy::{
    Cancel, CancelLayer, Cause, Deadline, Scope, Stage,
    patterns::{
        CancellablePrediction, PredictionStatus::*, TimeoutError, run_cancellable, timeout,
    },
};

use super::{support::*, watched::*};

#[tokio::test(start_paused = true)]
async fn a_prediction_that_completes_says_so_and_needs_no_clean_up() {
    let (prediction, cleanups) = watched(CancellablePrediction::new());
    let handle = prediction.handle();
    assert_eq!(
        (handle.status(), handle.elapsed()),
        (Pending, Duration::ZERO)
    );
    let running = tokio::spawn(prediction.execute(async {
        sleep(secs(5)).await;
        Ok::<_, BoxError>("answer")
    }));
    sleep(secs(2)).await;
    assert_eq!((handle.status(), handle.elapsed()), (Running, secs(2)));
    assert_eq!(handle.ended().await, Completed);
    assert_eq!(running.await.unwrap().unwrap(), "answer");
    sleep(secs(9)).await;
    // Neither time nor a late cancellation changes what was.
    handle.cancel();
    assert_eq!((handle.status(), handle.elapsed()), (Completed, secs(5)));
    assert!(seen(&cleanups).is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_end_has_its_status_and_its_cause() {
    for (scope, cause) in [
        (Scope::Attempt, Cause::Elapsed),
        (Scope::Deadline, Cause::Deadline),
    ] {
        let record = Record::default();
        let prediction = CancellablePrediction::new();
        let (prediction, cleanups) = watched(match scope {
            Scope::Deadline => prediction.with_deadline(Deadline::within(secs(3))),
            _ => prediction.with_timeout(secs(3)),
        });
        let handle = prediction.handle();
        let token = handle.token();
        let operation = record.answers(secs(60)).oneshot(request());
        let (took, result) = timed(prediction.execute(operation)).await;
        assert_eq!((took, handle.elapsed()), (secs(3), secs(3)));
        assert_eq!(result.unwrap_err().elapsed().unwrap().scope(), scope);
        assert_eq!(handle.status(), TimedOut);
        assert_eq!(record.drops(), [cause]);
        assert_eq!(seen(&cleanups), both(cause));
        assert!(token.is_cancelled());
        assert_eq!(handle.node().cause(), Some(cause));
    }

    let (prediction, cleanups) = watched(CancellablePrediction::new());
    let handle = prediction.handle();
    let result = prediction.execute(async { Err::<(), _>("no") }).await;
    assert_eq!(result, Err(TimeoutError::Failed("no")));
    assert_eq!(handle.status(), Failed);
    assert!(seen(&cleanups).is_empty());
    assert!(!handle.token().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn cancelling_runs_the_clean_up_before_the_status_is_final() {
    for cause in [Cause::Caller, Cause::ClientGone] {
        let record = Record::default();
        let (prediction, cleanups) = watched(CancellablePrediction::new());
        let handle = prediction.handle();
        let looks = handle.clone();
        let prediction = prediction.on_cancel(move |_| assert_eq!(looks.status(), Running));
        let operation = record.answers(secs(60)).oneshot(request());
        let mut call = task::spawn(prediction.execute(operation));
        assert_pending!(call.poll());
        advance(secs(1)).await;
        assert!(handle.node().cancel(cause));
        assert!(!handle.cancel());
        assert_eq!(handle.status(), Running);
        let error = assert_ready!(call.poll()).unwrap_err();
        assert!(matches!(error, TimeoutError::Cancelled(e) if e.cause() == cause));
        assert_eq!((handle.status(), handle.elapsed()), (Cancelled, secs(1)));
        assert_eq!(record.drops(), [cause]);
        assert_eq!(seen(&cleanups), both(cause));
    }
}

#[tokio::test(start_paused = true)]
async fn the_callers_token_reaches_it_and_is_left_alone() {
    let token = CancellationToken::new();
    let one = CancellablePrediction::with_token(&token);
    let other = CancellablePrediction::with_token(&token);
    let (first, second) = (one.handle(), other.handle());
    let task = tokio::spawn({
        let token = first.token();
        async move { token.cancelled().await }
    });
    let one = tokio::spawn(one.execute(pending::<()>()));
    let other = tokio::spawn(other.execute(pending::<()>()));
    sleep(secs(1)).await;
    assert!(first.cancel());
    task.await.unwrap();
    assert_eq!(first.ended().await, Cancelled);
    assert_eq!(second.status(), Running);
    assert!(!token.is_cancelled());
    token.cancel();
    assert_eq!(second.ended().await, Cancelled);
    assert!(one.await.unwrap().is_err() && other.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn what_ended_before_it_started_never_runs_and_has_nothing_to_clean_up() {
    // Cancelled, and seen so before it is polled.
    let record = Record::default();
    let (prediction, cleanups) = watched(CancellablePrediction::new());
    let handle = prediction.handle();
    let call = prediction.execute(record.answers(secs(0)).oneshot(request()));
    let waiting = tokio::spawn({
        let handle = handle.clone();
        async move { handle.ended().await }
    });
    sleep(secs(1)).await;
    handle.cancel();
    assert_eq!(waiting.await.unwrap(), Cancelled);
    assert_eq!(handle.status(), Cancelled);
    assert!(matches!(call.await, Err(TimeoutError::Cancelled(_))));
    assert_eq!(
        (handle.status(), handle.elapsed()),
        (Cancelled, Duration::ZERO)
    );
    assert_eq!(record.calls(), 0);
    assert!(seen(&cleanups).is_empty());

    // Past its deadline.
    let (prediction, cleanups) = watched(CancellablePrediction::new());
    let prediction = prediction.with_deadline(Deadline::within(Duration::ZERO));
    let handle = prediction.handle();
    let call = prediction.execute(record.answers(secs(0)).oneshot(request()));
    let error = call.await.unwrap_err();
    assert_eq!(error.elapsed().unwrap().stage(), Stage::BeforeStart);
    assert_eq!((handle.status(), record.calls()), (TimedOut, 0));
    assert!(seen(&cleanups).is_empty());

    // Dropped, as itself and as a future.
    let prediction = CancellablePrediction::new();
    let handle = prediction.handle();
    drop(prediction.execute(pending::<()>()));
    assert_eq!(handle.status(), Cancelled);
    let prediction = CancellablePrediction::new();
    let handle = prediction.handle();
    drop(prediction);
    assert_eq!(handle.ended().await, Cancelled);
}

#[tokio::test(start_paused = true)]
async fn dropping_it_is_an_end_and_the_reason_is_kept() {
    let (prediction, cleanups) = watched(CancellablePrediction::new());
    let handle = prediction.handle();
    let mut call = task::spawn(prediction.execute(pending::<()>()));
    assert_pending!(call.poll());
    drop(call);
    assert_eq!(handle.status(), Cancelled);
    assert_eq!(seen(&cleanups), both(Cause::Dropped));
    assert!(handle.token().is_cancelled());

    let (prediction, cleanups) = watched(CancellablePrediction::new());
    let handle = prediction.handle();
    let result = timeout(secs(1), prediction.execute(pending::<()>())).await;
    assert!(matches!(result, Err(TimeoutError::Elapsed(_))));
    assert_eq!(handle.status(), TimedOut);
    assert_eq!(seen(&cleanups), both(Cause::Elapsed));

    let (prediction, cleanups) = watched(CancellablePrediction::new());
    let handle = prediction.handle();
    let cancel = Cancel::new();
    cancel.child().cancel(Cause::Shutdown);
    let mut call = task::spawn(run_cancellable(
        &cancel,
        prediction.execute(pending::<()>()),
    ));
    assert_pending!(call.poll());
    cancel.cancel(Cause::Shutdown);
    assert!(assert_ready!(call.poll()).is_err());
    assert_eq!(handle.status(), Cancelled);
    assert_eq!(seen(&cleanups), both(Cause::Shutdown));
}

#[tokio::test]
async fn a_panic_is_a_failure() {
    let (prediction, cleanups) = watched(CancellablePrediction::new());
    let handle = prediction.handle();
    let call = tokio::spawn(prediction.execute(async { panic!("on purpose") as () }));
    assert!(call.await.unwrap_err().is_panic());
    assert_eq!(handle.ended().await, Failed);
    assert_eq!(seen(&cleanups), both(Cause::Dropped));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_cancelled_and_too_late_was_cancelled() {
    let deadline = Deadline::within(secs(1));
    let prediction = CancellablePrediction::new().with_deadline(deadline);
    let handle = prediction.handle();
    handle.cancel();
    assert_eq!(handle.status(), Cancelled);
    advance(secs(2)).await;
    let result = prediction.execute(async { Ok::<_, BoxError>("answer") });
    // As its status said already.
    assert!(matches!(result.await, Err(TimeoutError::Cancelled(_))));
    assert_eq!(handle.status(), Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_layer_within_leaves_the_prediction_its_grace() {
    for limit in [None, Some(secs(60))] {
        let record = Record::default();
        let service = tower::Layer::layer(&CancelLayer::new(), record.tidies(secs(2)));
        let mut prediction = CancellablePrediction::new().with_grace(secs(5));
        if let Some(limit) = limit {
            prediction = prediction.with_timeout(limit);
        }
        let handle = prediction.handle();
        let mut call = task::spawn(prediction.call(service, request()));
        assert_pending!(call.poll());
        handle.cancel();
        let (took, result) = timed(call).await;
        assert_eq!(took, secs(2));
        assert!(matches!(result, Err(TimeoutError::Cancelled(_))));
        assert_eq!(handle.status(), Cancelled);
        assert!(record.drops().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_grace_lets_the_operation_clean_up_and_changes_no_outcome() {
    // (clean-up takes, cancelled after, the end, the status, the cause if it had to be dropped)
    for (tidy, cancelled, took, status, dropped) in [
        (2, None, 3 + 2, TimedOut, None),
        (9, None, 3 + 5, TimedOut, Some(Cause::Elapsed)),
        (2, Some(1), 1 + 2, Cancelled, None),
        (9, Some(1), 1 + 5, Cancelled, Some(Cause::Caller)),
        // Cancelled in the grace of the limit: it is the limit that ended it.
        (4, Some(5), 3 + 4, TimedOut, None),
    ] {
        let record = Record::default();
        let prediction = CancellablePrediction::new()
            .with_timeout(secs(3))
            .with_grace(secs(5));
        let (prediction, cleanups) = watched(prediction);
        let handle = prediction.handle();
        if let Some(after) = cancelled {
            let handle = handle.clone();
            tokio::spawn(async move {
                sleep(secs(after)).await;
                handle.cancel();
            });
        }
        let mut request = request();
        request.context.cancel = handle.node().clone();
        let operation = record.tidies(secs(tidy)).oneshot(request);
        let (time, result) = timed(prediction.execute(operation)).await;
        assert!(result.is_err());
        assert_eq!((time, handle.status()), (secs(took), status));
        assert_eq!(record.drops(), Vec::from_iter(dropped));
        assert_eq!(seen(&cleanups).len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn at_one_instant_the_answer_beats_the_cancellation_and_that_the_limit() {
    for (answers, cancels, status) in [
        (true, true, Completed),
        (true, false, Completed),
        (false, true, Cancelled),
        (false, false, TimedOut),
    ] {
        let prediction = CancellablePrediction::new().with_timeout(secs(1));
        let handle = prediction.handle();
        let mut call = task::spawn(prediction.execute(async move {
            sleep(secs(if answers { 1 } else { 60 })).await;
        }));
        assert_pending!(call.poll());
        advance(secs(1)).await;
        if cancels {
            handle.cancel();
        }
        assert_eq!(assert_ready!(call.poll()).is_ok(), answers);
        assert_eq!(handle.status(), status);
    }
}
