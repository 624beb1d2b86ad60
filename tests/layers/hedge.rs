//! Two attempts at a call: the time of the second, and the choice between the answers.

use std::time::Duration;

use tokio::time::{advance, sleep};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_dspy::{
    Cancel, Cancelled, Cause, DeadlineLayer, Elapsed, Error, Hedge, HedgeLayer, Latency,
    Percentile, RetryBudget, Scope, Stage, TimeoutLayer,
};

use super::{
    attempts::{Attempts, after, takes},
    script::{busy, elapsed as elapsed_error, too_slow},
    support::{Mocked, Request, Strict, due, millis, request, secs, timed},
};

const BOTH: [(Duration, u32); 2] = [(Duration::ZERO, 0), (secs(1), 1)];

#[tokio::test(start_paused = true)]
async fn the_second_attempt_is_sent_at_the_delay_and_not_before() {
    for (first, second, took, answer) in [
        (999, 0, 999, "first"),
        // Ready at the instant of the delay.
        (1_000, 0, 1_000, "first"),
        (1_001, 0, 1_000, "second"),
        (60_000, 500, 1_500, "second"),
        (1_400, 500, 1_400, "first"),
        // Both at once.
        (1_500, 500, 1_500, "first"),
    ] {
        let log = Attempts::new();
        let service = after(1_000).layer(log.play(takes(first, second)));
        let (elapsed, result) = timed(service.oneshot(request())).await;
        assert_eq!((elapsed, result.unwrap()), (millis(took), answer));
        let sent = if first > 1_000 { &BOTH[..] } else { &BOTH[..1] };
        assert_eq!(log.sent(), sent);
    }
}

#[tokio::test(start_paused = true)]
async fn the_losing_attempt_is_dropped_before_the_answer_is_returned() {
    for (first, second, loser) in [(60_000, 500, 0), (1_400, 60_000, 1)] {
        let log = Attempts::new();
        let mut service = after(1_000).layer(log.play(takes(first, second)));
        let mut call = std::pin::pin!(service.ready().await.unwrap().call(request()));
        call.as_mut().await.unwrap();
        // `call` is still alive; the loser is not.
        assert_eq!(log.dropped(), [(loser, Cause::Superseded)]);
        // Polled against the rules, it does not answer twice.
        assert_pending!(task::spawn(call).poll());
    }
}

#[tokio::test(start_paused = true)]
async fn both_attempts_are_one_call() {
    let log = Attempts::new();
    let mut request = request();
    request.context.attempt = 3;
    let slow = |_| (secs(60), Ok("answer"));
    let service = after(1_000).layer(log.play(slow));
    service.oneshot(request).await.unwrap();
    let sent = log.sent.lock().unwrap();
    let [first, second] = [&sent[0].1.context, &sent[1].1.context];
    assert!(first.call_id.is_some());
    assert_eq!(first.call_id, second.call_id);
    assert_eq!([first.attempt, second.attempt], [3, 4]);
}

#[tokio::test(start_paused = true)]
async fn the_later_of_two_failures_is_returned() {
    for (first, second, took, expected) in [
        (3_000, 1_000, 3_000, Some(429)),
        (2_000, 4_000, 5_000, Some(503)),
    ] {
        let log = Attempts::new();
        let service = after(1_000).layer(log.play(move |attempt| match attempt {
            0 => (millis(first), Err(busy(None))),
            _ => (millis(second), Err(unavailable())),
        }));
        let (elapsed, result) = timed(service.oneshot(request())).await;
        assert_eq!(elapsed, millis(took));
        assert!(matches!(result, Err(Error::Lm(lm)) if lm.status() == expected));
        assert_eq!(log.dropped(), []);
    }
}

fn unavailable() -> Error {
    tower_dspy::LmError::new("LMError", "down", Some(503), None).into()
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_leaves_the_call_to_the_other_attempt() {
    let failures: [fn() -> Error; 4] = [
        too_slow,
        unavailable,
        || elapsed_error(Scope::Reserve),
        // The service takes nothing new, but may still finish what it has.
        || Cancelled::new(Cause::Shutdown).into(),
    ];
    for failure in failures {
        for failing in [0, 1] {
            let log = Attempts::new();
            let service = after(1_000).layer(log.play(move |attempt| {
                if attempt == failing {
                    (millis(1_500), Err(failure()))
                } else {
                    (secs(4), Ok("answer"))
                }
            }));
            let (took, result) = timed(service.oneshot(request())).await;
            assert_eq!(result.unwrap(), "answer");
            assert_eq!(took, [secs(5), secs(4)][failing as usize]);
            assert_eq!(log.dropped(), []);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_is_returned_at_once() {
    let refused = || tower_dspy::LmError::new("LMAuthError", "key", Some(401), None).into();
    let failures: [(fn() -> Error, Cause); 3] = [
        (refused, Cause::Superseded),
        (|| Cancelled::new(Cause::Caller).into(), Cause::Superseded),
        (|| elapsed_error(Scope::Deadline), Cause::Deadline),
    ];
    for (failure, cause) in failures {
        for failing in [0, 1] {
            let log = Attempts::new();
            let service = after(1_000).layer(log.play(move |attempt| {
                if attempt == failing {
                    (millis(1_500), Err(failure()))
                } else {
                    (secs(4), Ok("answer"))
                }
            }));
            let (took, result) = timed(service.oneshot(request())).await;
            result.unwrap_err();
            assert_eq!(took, millis([1_500, 2_500][failing as usize]));
            assert_eq!(log.dropped(), [(1 - failing, cause)]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_the_delay_is_left_to_retry() {
    let log = Attempts::new();
    let service = after(1_000).layer(log.play(|_| (millis(900), Err(too_slow()))));
    let (took, result) = timed(service.oneshot(request())).await;
    assert_eq!(took, millis(900));
    result.unwrap_err();
    assert_eq!(log.sent().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_custom_error_type_is_classified_by_a_function() {
    #[derive(Debug, PartialEq)]
    struct Mine;
    let service = tower::service_fn(|_: Request| async {
        sleep(secs(2)).await;
        Err::<(), _>(Mine)
    });
    let layer = after(1_000).classify(|_: &Mine| tower_dspy::ErrorKind::InvalidInput);
    let (took, result) = timed(layer.layer(service).oneshot(request())).await;
    assert_eq!((took, result), (secs(2), Err(Mine)));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_gets_no_second_attempt() {
    let log = Attempts::new();
    let service = after(1_000).layer(log.play(takes(3_000, 0)));
    let mut request = request();
    let cancel = Cancel::new();
    request.context.cancel = cancel.clone();
    let cancels = async {
        sleep(millis(500)).await;
        cancel.cancel(Cause::Caller);
    };
    // Without a cancel layer, or in its grace, the first attempt goes on.
    let (result, ()) = tokio::join!(service.oneshot(request), cancels);
    assert_eq!(result.unwrap(), "first");
    assert_eq!(log.sent().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_both_attempts_with_its_cause() {
    let log = Attempts::new();
    let service = ServiceBuilder::new()
        .layer(tower_dspy::CancelLayer::new())
        .layer(after(1_000))
        .service(log.play(takes(9_000, 9_000)));
    let mut request = request();
    let cancel = Cancel::new();
    request.context.cancel = cancel.clone();
    let cancels = async {
        sleep(secs(2)).await;
        cancel.cancel(Cause::ClientGone);
    };
    let ((took, result), ()) = tokio::join!(timed(service.oneshot(request)), cancels);
    assert_eq!(took, secs(2));
    result.unwrap_err();
    let gone = Cause::ClientGone;
    assert_eq!(log.dropped(), [(0, gone), (1, gone)]);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_call_drops_both_attempts_without_a_cause() {
    let log = Attempts::new();
    let service = after(1_000).layer(log.play(takes(9_000, 9_000)));
    let mut call = task::spawn(service.oneshot(request()));
    assert_pending!(call.poll());
    advance(secs(1)).await;
    assert_pending!(call.poll());
    assert_eq!(log.sent(), BOTH);
    drop(call);
    let dropped = Cause::Dropped;
    assert_eq!(log.dropped(), [(0, dropped), (1, dropped)]);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_both_attempts() {
    let log = Attempts::new();
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(3)))
        .layer(after(1_000))
        .service(log.play(takes(9_000, 9_000)));
    let (took, result) = timed(service.oneshot(request())).await;
    assert_eq!(took, secs(3));
    let expected = Elapsed::new(Scope::Deadline, Stage::Running, secs(3));
    assert!(matches!(result, Err(Error::Elapsed(elapsed)) if elapsed == expected));
    let deadline = Cause::Deadline;
    assert_eq!(log.dropped(), [(0, deadline), (1, deadline)]);
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_its_own_limit_inside() {
    let log = Attempts::new();
    let service = ServiceBuilder::new()
        .layer(after(1_000))
        .layer(TimeoutLayer::new(secs(2)))
        .service(log.play(takes(9_000, 1_500)));
    let (took, result) = timed(service.oneshot(request())).await;
    assert_eq!((took, result.unwrap()), (millis(2_500), "second"));
    assert_eq!(log.dropped(), [(0, Cause::Elapsed)]);
}

#[tokio::test(start_paused = true)]
async fn no_second_attempt_is_sent_without_enough_time_left() {
    for (deadline, needed, attempts) in [
        (1_000, 0, 1),
        (1_001, 0, 2),
        (1_999, 1_000, 1),
        (2_000, 1_000, 2),
        (60_000, 1_000, 2),
    ] {
        let log = Attempts::new();
        let layer = after(1_000).with_min_attempt(millis(needed));
        // Nobody enforces the deadline.
        let service = layer.layer(log.play(takes(3_000, 3_000)));
        service.oneshot(due(millis(deadline))).await.unwrap();
        assert_eq!(log.sent().len(), attempts, "{deadline} {needed}");
    }
}

#[test]
fn the_layer_and_the_service_fit_a_router() {
    fn shared<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>(_: &T) {}
    shared::<HedgeLayer>();
    shared::<Hedge<Mocked>>();
    let mut service = HedgeLayer::new(Percentile::P95).layer(Strict::after(secs(1)));
    assert_eq!(service.get_ref().delay, secs(1));
    service.get_mut().delay = secs(2);
    assert_eq!(service.clone().into_inner().delay, secs(2));
    assert!(HedgeLayer::new(Percentile::P95).latency().is_some());
    assert!(after(1).latency().is_none());
    let latency = Latency::default();
    assert!(after(1).with_latency(latency).latency().is_some());
    sent(&service.map_future(|call| {
        sent(&call);
        call
    }));
    let budget = RetryBudget::unlimited();
    assert!(format!("{:?}", after(1).with_budget(budget)).contains("unlimited"));
}
