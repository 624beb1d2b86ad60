use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, service_fn};
use tower_dspy::{
    Cancel, Cause, Deadline, Error, TimeoutLayer,
    patterns::{CancellablePrediction, PredictionStatus::*, TimeoutConfig, TimeoutError},
};

use super::{support::*, watched::*};

#[tokio::test(start_paused = true)]
async fn a_call_gets_the_limits_the_token_and_the_id() {
    let record = Record::default();
    let prediction = CancellablePrediction::new().with_timeout(secs(9));
    let handle = prediction.handle();
    let deadline = Deadline::within(secs(9));
    let result = prediction.call(record.answers(secs(1)), request()).await;
    assert_eq!(result.unwrap(), "answer");
    let context = record.context();
    assert_eq!(context.deadline, Some(deadline));
    assert_eq!(context.call_id, Some(handle.id()));
    assert!(!context.cancel.is_cancelled());
    handle.node().cancel(Cause::Caller);
    assert!(context.cancel.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_call_keeps_the_limits_that_the_request_brought() {
    let record = Record::default();
    let prediction = CancellablePrediction::new().with_timeout(secs(9));
    let handle = prediction.handle();
    let (took, result) = timed(prediction.call(record.answers(secs(60)), due(secs(4)))).await;
    assert_eq!(took, secs(4));
    assert!(matches!(result, Err(TimeoutError::Deadline(_))));
    assert_eq!(handle.status(), TimedOut);

    let record = Record::default();
    let theirs = Cancel::new();
    let mut request = request();
    request.context.cancel = theirs.clone();
    let prediction = CancellablePrediction::new();
    let handle = prediction.handle();
    let mut call = task::spawn(prediction.call(record.answers(secs(60)), request.clone()));
    assert_pending!(call.poll());
    theirs.cancel(Cause::ClientGone);
    assert!(call.is_woken());
    let error = assert_ready!(call.poll()).unwrap_err();
    assert!(matches!(error, TimeoutError::Cancelled(e) if e.cause() == Cause::ClientGone));
    assert_eq!(handle.status(), Cancelled);
    assert_eq!(record.context().cancel.cause(), Some(Cause::ClientGone));

    // And one that was cancelled when it came.
    let prediction = CancellablePrediction::new();
    let handle = prediction.handle();
    let result = prediction.call(record.answers(secs(0)), request).await;
    assert!(matches!(result, Err(TimeoutError::Cancelled(_))));
    assert_eq!((handle.status(), record.calls()), (Cancelled, 1));
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_the_services_own_is_a_time_out_too() {
    let record = Record::default();
    let service = TimeoutLayer::new(secs(2)).layer(record.answers(secs(60)));
    let (prediction, cleanups) = watched(CancellablePrediction::new());
    let handle = prediction.handle();
    let result = prediction.call(service, request()).await;
    assert!(matches!(result, Err(TimeoutError::Failed(_))));
    assert_eq!(handle.status(), TimedOut);
    assert_eq!(seen(&cleanups), both(Cause::Elapsed));

    // Where both coincide, the prediction's own is named.
    let service = TimeoutConfig::new().layer().layer(record.answers(secs(60)));
    let prediction = CancellablePrediction::new().with_timeout(secs(2));
    let result = prediction.call(service, request()).await;
    assert!(
        matches!(result, Err(TimeoutError::Elapsed(_))),
        "{result:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_readiness_within_its_limits() {
    let prediction = CancellablePrediction::new().with_timeout(secs(2));
    let handle = prediction.handle();
    let (took, result) = timed(prediction.call(NeverReady, request())).await;
    assert_eq!(took, secs(2));
    assert!(matches!(result, Err(TimeoutError::Elapsed(_))));
    assert_eq!(handle.status(), TimedOut);

    let answers = service_fn(|_: Request| async { Ok::<_, Error>(1) });
    let call = CancellablePrediction::default().call(answers, request());
    assert_eq!(tokio::spawn(call).await.unwrap().unwrap(), 1);
}
