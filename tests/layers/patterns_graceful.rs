use std::{
    future::pending,
    sync::{Arc, Mutex},
};

use tokio::time::{Instant, advance, sleep};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, ServiceExt};
use tower_dspy::{
    CancelLayer, Cause, Session, TimeoutLayer,
    patterns::{GracefulCancellationHandler, TimeoutError},
};

use super::support::*;

/// An operation that listens to its token and takes `tidy` to end.
fn listens(
    handler: &GracefulCancellationHandler,
    tidy: u64,
) -> impl Future<Output = Result<&'static str, &'static str>> + use<> {
    let token = handler.child_token();
    async move {
        token.cancelled().await;
        sleep(secs(tidy)).await;
        Ok("tidied")
    }
}

#[tokio::test(start_paused = true)]
async fn the_grace_waits_for_the_work_and_no_longer() {
    let handler = GracefulCancellationHandler::new();
    let quick = tokio::spawn(handler.execute(listens(&handler, 1)));
    let slow = tokio::spawn(handler.execute(listens(&handler, 3)));
    sleep(secs(1)).await;
    assert_eq!(handler.pending_operations().len(), 2);
    assert_eq!(handler.pending_operations()[0].elapsed(), secs(1));

    let (took, report) = timed(handler.cancel_gracefully(secs(60))).await;
    assert_eq!((took, report.took), (secs(3), secs(3)));
    assert_eq!((report.ended, report.cut), (2, 0));
    assert!(report.abandoned.is_empty() && handler.pending_operations().is_empty());
    // Who ends within the grace keeps the answer.
    assert_eq!(quick.await.unwrap(), Ok("tidied"));
    assert_eq!(slow.await.unwrap(), Ok("tidied"));
}

#[tokio::test(start_paused = true)]
async fn layers_inside_leave_the_end_to_the_handler() {
    for (grace, took, ended, cut) in [(60, 2, 1, 0), (1, 1, 0, 1)] {
        let record = Record::default();
        let handler = GracefulCancellationHandler::new();
        // By itself, the layer drops its work as soon as the token is cancelled.
        let service = CancelLayer::new().layer(record.tidies(secs(2)));
        let mut request = request();
        request.context.cancel = handler.child();
        let call = tokio::spawn(handler.execute(service.oneshot(request)));
        tokio::task::yield_now().await;

        let (waited, report) = timed(handler.cancel_gracefully(secs(grace))).await;
        assert_eq!(waited, secs(took));
        assert_eq!((report.ended, report.cut), (ended, cut));
        match call.await.unwrap() {
            Ok(answer) => assert_eq!((answer, cut), ("tidied", 0)),
            Err(error) => {
                assert!(matches!(error, TimeoutError::Cancelled(_)), "{error:?}");
                assert_eq!(record.drops(), [Cause::Caller]);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_listen_is_cut_when_the_grace_ends() {
    let record = Record::default();
    let handler = GracefulCancellationHandler::new();
    let deaf = tokio::spawn(handler.execute(record.answers(secs(60)).oneshot(request())));
    let in_time = tokio::spawn(handler.execute(sleep(secs(4))));
    tokio::task::yield_now().await;
    let (took, report) = timed(handler.cancel_gracefully(secs(5))).await;
    assert_eq!(took, secs(5));
    assert_eq!((report.ended, report.cut), (1, 1));
    assert!(report.abandoned.is_empty());
    // It was gone when the report came.
    assert_eq!(record.drops(), [Cause::Caller]);
    assert!(matches!(
        deaf.await.unwrap(),
        Err(TimeoutError::Cancelled(_))
    ));
    assert_eq!(in_time.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_polls_is_reported_as_abandoned() {
    let handler = GracefulCancellationHandler::new();
    let mut stuck = task::spawn(handler.execute(pending::<()>()));
    assert_pending!(stuck.poll());
    let id = handler.pending_operations()[0].id();
    let (took, report) = timed(handler.cancel_gracefully(secs(2))).await;
    assert!(took >= secs(2) && took < secs(3), "{took:?}");
    assert_eq!((report.ended, report.cut), (0, 0));
    assert_eq!(report.abandoned.len(), 1);
    assert_eq!(report.abandoned[0].id(), id);
    // Should it be polled after all, it ends.
    assert!(assert_ready!(stuck.poll()).is_err());
    assert!(handler.pending_operations().is_empty());
}

#[tokio::test(start_paused = true)]
async fn later_operations_are_refused_with_the_cause() {
    let record = Record::default();
    let handler = GracefulCancellationHandler::new();
    let early = handler.execute(record.answers(secs(0)).oneshot(request()));
    assert!(handler.cancel(Cause::Shutdown));
    assert!(handler.is_cancelled());
    let late = || handler.execute(record.answers(secs(0)).oneshot(request()));
    for call in [late().await, early.await] {
        assert!(matches!(call, Err(TimeoutError::Cancelled(e)) if e.cause() == Cause::Shutdown));
    }
    let report = handler.cancel_gracefully(secs(9)).await;
    assert_eq!((report.ended, report.cut), (0, 0));
    assert!(matches!(late().await, Err(TimeoutError::Cancelled(_))));
    assert_eq!(record.calls(), 0);
    assert_eq!(handler.child().cause(), Some(Cause::Shutdown));
}

#[tokio::test(start_paused = true)]
async fn handlers_run_once_in_order_after_the_work_and_are_bounded() {
    let handler = GracefulCancellationHandler::new().with_cleanup_limit(secs(2));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let start = Instant::now();
    for (n, takes) in [(1, 1), (2, 60), (3, 0)] {
        let (seen, pending) = (seen.clone(), handler.clone());
        handler.on_cleanup(move || async move {
            assert!(pending.pending_operations().is_empty());
            seen.lock().unwrap().push((n, start.elapsed()));
            sleep(secs(takes)).await;
        });
    }
    let work = tokio::spawn(handler.execute(listens(&handler, 4)));
    tokio::task::yield_now().await;
    let report = handler.cancel_gracefully(secs(60)).await;
    assert_eq!(
        *seen.lock().unwrap(),
        [(1, secs(4)), (2, secs(5)), (3, secs(7))]
    );
    assert_eq!((report.cleaned_up, report.cleanups_cut), (2, 1));
    assert_eq!(report.took, secs(7));
    work.await.unwrap().unwrap();

    let report = handler.cancel_gracefully(secs(60)).await;
    assert_eq!((report.cleaned_up, report.cleanups_cut), (0, 0));
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_second_call_may_bring_a_shorter_grace_and_waits_for_the_clean_up() {
    let handler = GracefulCancellationHandler::new();
    let seen = Arc::new(Mutex::new(0));
    let count = seen.clone();
    handler.on_cleanup(move || async move {
        sleep(secs(1)).await;
        *count.lock().unwrap() += 1;
    });
    let work = tokio::spawn(handler.execute(pending::<()>()));
    tokio::task::yield_now().await;
    let (one, two) = tokio::join!(
        timed(handler.cancel_gracefully(secs(60))),
        timed(async {
            sleep(secs(2)).await;
            handler.cancel_gracefully(secs(1)).await
        })
    );
    assert_eq!((one.0, two.0), (secs(4), secs(4)));
    assert_eq!((one.1.cut, two.1.cut), (1, 1));
    assert_eq!(one.1.cleaned_up + two.1.cleaned_up, 1);
    assert_eq!(*seen.lock().unwrap(), 1);
    assert!(work.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn dropping_the_end_midway_leaves_the_rest_to_the_next() {
    let handler = GracefulCancellationHandler::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    for n in 0..2 {
        let seen = seen.clone();
        handler.on_cleanup(move || async move {
            sleep(secs(1)).await;
            seen.lock().unwrap().push(n);
        });
    }
    let mut end = task::spawn(handler.cancel_gracefully(secs(1)));
    assert_pending!(end.poll());
    advance(secs(1)).await;
    drop(end);
    // The first had begun and is gone.
    let report = handler.cancel_gracefully(secs(1)).await;
    assert_eq!(report.cleaned_up, 1);
    assert_eq!(*seen.lock().unwrap(), [1]);
}

#[tokio::test(start_paused = true)]
async fn all_sessions_end_with_their_handler() {
    let (tidy, deaf) = (Record::default(), Record::default());
    let in_a_session = |handler: &GracefulCancellationHandler, work: Mocked| {
        let session = Session::within(secs(60)).with_cancel(handler.child());
        let call = session.wrap(work).oneshot(request());
        tokio::spawn(handler.execute(call))
    };
    let handler = GracefulCancellationHandler::new();
    let tidied = [(); 3].map(|()| in_a_session(&handler, tidy.tidies(secs(2))));
    tokio::task::yield_now().await;
    handler.cancel(Cause::Shutdown);
    let (took, report) = timed(handler.cancel_gracefully(secs(9))).await;
    assert_eq!((took, report.ended, report.cut), (secs(2), 3, 0));
    for call in tidied {
        assert_eq!(call.await.unwrap().unwrap(), "tidied");
    }
    assert_eq!(tidy.drops(), []);

    // One that does not listen has the whole grace, as it would without a session.
    let handler = GracefulCancellationHandler::new();
    let call = in_a_session(&handler, deaf.answers(secs(30)));
    tokio::task::yield_now().await;
    handler.cancel(Cause::Shutdown);
    let (took, report) = timed(handler.cancel_gracefully(secs(9))).await;
    assert_eq!((took, report.ended, report.cut), (secs(9), 0, 1));
    match call.await.unwrap() {
        Err(TimeoutError::Cancelled(cancelled)) => assert_eq!(cancelled.cause(), Cause::Shutdown),
        other => panic!("{other:?}"),
    }
    assert_eq!(deaf.drops(), [Cause::Shutdown]);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_passes_in_the_grace_leaves_the_end_to_the_handler_and_is_bounded_by_it() {
    let record = Record::default();
    let handler = GracefulCancellationHandler::new();
    let limited = TimeoutLayer::new(secs(1)).layer(record.answers(secs(60)));
    let mut request = request();
    request.context.cancel = handler.child();
    let call = tokio::spawn(handler.execute(limited.oneshot(request)));
    tokio::task::yield_now().await;
    let (took, report) = timed(handler.cancel_gracefully(secs(3))).await;
    assert_eq!((took, report.cut), (secs(3), 1));
    assert!(matches!(
        call.await.unwrap(),
        Err(TimeoutError::Cancelled(_))
    ));
    assert_eq!(record.drops(), [Cause::Caller]);
}
