use std::{pin::pin, time::Duration};

use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, task};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};
use tower_dspy::{Cause, DeadlineLayer, DeadlineService, Scope, Stage};
use tower_test::mock;

use super::support::*;

#[tokio::test(start_paused = true)]
async fn an_answer_at_the_instant_of_the_deadline_wins() {
    for (delay, answers) in [(999, true), (1_000, true), (1_001, false)] {
        let record = Record::default();
        let service = DeadlineService::new(record.answers(millis(delay)), secs(1));
        let (took, result) = timed(service.oneshot(request())).await;
        assert_eq!(took, millis(delay.min(1_000)));
        if answers {
            assert_eq!(result.unwrap(), "answer");
            assert!(record.drops().is_empty());
        } else {
            assert_eq!(elapsed(result), (Scope::Deadline, Stage::Running, secs(1)));
            assert_eq!(record.drops(), [Cause::Deadline]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_waiting_clone_is_dropped_before_the_error_is_returned() {
    let (mut service, mut handle) =
        mock::spawn_layer::<Request, &str, _>(DeadlineLayer::new(secs(1)));
    handle.allow(0);
    assert_ready!(service.poll_ready()).unwrap();
    let mut call = task::spawn(service.call(request()));
    assert_pending!(call.poll());
    advance(millis(999)).await;
    assert_pending!(call.poll());
    advance(millis(1)).await;
    let error = assert_ready_err!(call.poll());
    assert_eq!(
        elapsed(Err::<(), _>(error)),
        (Scope::Deadline, Stage::Waiting, secs(1))
    );
    // Only `call` is still alive, without its clone.
    drop(service);
    assert!(handle.next_request().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_work_is_dropped_before_the_error_is_returned() {
    let record = Record::default();
    let mut service = DeadlineService::new(record.answers(secs(9)), secs(1));
    let mut call = pin!(service.call(request()));
    elapsed(call.as_mut().await);
    assert_eq!(record.drops(), [Cause::Deadline]);
    assert_pending!(task::spawn(call).poll());
}

#[tokio::test(start_paused = true)]
async fn dropping_the_call_drops_the_work_without_a_cause() {
    let record = Record::default();
    let mut service = DeadlineService::new(record.answers(secs(9)), secs(5));
    let mut call = task::spawn(service.call(request()));
    assert_pending!(call.poll());
    drop(call);
    assert_eq!(record.drops(), [Cause::Dropped]);
}

#[tokio::test(start_paused = true)]
async fn the_earlier_of_the_layers_and_the_inbound_deadline_applies() {
    for (inbound, after) in [(9, 4), (4, 4), (3, 3)] {
        let record = Record::default();
        let service = DeadlineService::new(record.answers(secs(60)), secs(4));
        let start = Instant::now();
        let (took, result) = timed(service.oneshot(due(secs(inbound)))).await;
        assert_eq!(took, secs(after));
        assert_eq!(
            elapsed(result),
            (Scope::Deadline, Stage::Running, secs(after))
        );
        let inward = record.context().deadline.unwrap().instant();
        assert_eq!(inward, start + secs(after));
    }
}

#[tokio::test(start_paused = true)]
async fn from_context_enforces_the_inbound_deadline_and_sets_none() {
    let record = Record::default();
    let layer = DeadlineLayer::from_context().with_grace(secs(1));
    let service = layer.layer(record.answers(secs(60)));
    assert_eq!(service.clone().oneshot(request()).await.unwrap(), "answer");
    assert_eq!(record.context().deadline, None);
    // Nor is there anything to signal.
    assert!(!record.context().cancel.is_some());

    let layer = DeadlineLayer::from_context();
    let service = layer.layer(record.answers(secs(60)));
    let (took, result) = timed(service.oneshot(due(secs(3)))).await;
    assert_eq!(took, secs(3));
    elapsed(result);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_context_gets_one_only_with_a_limit() {
    let seen = |layer: DeadlineLayer| {
        layer
            .layer(tower::service_fn(|request: http::Request<()>| async move {
                Ok::<_, BoxError>(request.extensions().is_empty())
            }))
            .oneshot(http::Request::new(()))
    };
    assert!(seen(DeadlineLayer::from_context()).await.unwrap());
    assert!(!seen(DeadlineLayer::new(secs(1))).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_reserve_is_kept_back_from_the_work() {
    let record = Record::default();
    let layer = DeadlineLayer::new(secs(9)).with_reserve(millis(200));
    for (inbound, after) in [(1_000, 800), (60_000, 8_800)] {
        let service = layer.layer(record.answers(secs(60)));
        let (took, result) = timed(service.oneshot(due(millis(inbound)))).await;
        assert_eq!(took, millis(after));
        assert_eq!(
            elapsed(result),
            (Scope::Deadline, Stage::Running, millis(after))
        );
    }
    // Only the reserve is left: there is no time to work.
    let service = layer.layer(record.answers(secs(0)));
    let result = service.oneshot(due(millis(200))).await;
    assert_eq!(elapsed(result).1, Stage::BeforeStart);
    assert_eq!(record.calls(), 2);
    let all = DeadlineLayer::new(secs(9)).with_reserve(Duration::MAX);
    let result = all.layer(record.answers(secs(0))).oneshot(request()).await;
    assert_eq!(elapsed(result).1, Stage::BeforeStart);
}

#[tokio::test(start_paused = true)]
async fn a_past_deadline_is_refused_without_an_inner_call() {
    let record = Record::default();
    let late = due(secs(1));
    advance(secs(1)).await;
    for (layer, request) in [
        (DeadlineLayer::new(secs(9)), late.clone()),
        (DeadlineLayer::from_context(), late),
        (DeadlineLayer::new(Duration::ZERO), request()),
    ] {
        let (took, result) = timed(layer.layer(record.answers(secs(0))).oneshot(request)).await;
        assert_eq!(
            elapsed(result),
            (Scope::Deadline, Stage::BeforeStart, Duration::ZERO)
        );
        assert_eq!(took, Duration::ZERO);
    }
    assert_eq!(record.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_longest_limit_is_accepted() {
    let layer = DeadlineLayer::new(Duration::MAX).with_grace(Duration::MAX);
    let service = layer.layer(Record::default().answers(secs(86_400)));
    assert_eq!(service.oneshot(request()).await.unwrap(), "answer");
}

#[tokio::test(start_paused = true)]
async fn the_clone_that_became_ready_is_the_one_called() {
    let mut service = DeadlineService::new(Strict::after(secs(1)), secs(9));
    let (first, second) = (service.call(request()), service.call(request()));
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first.unwrap(), second.unwrap()), ("answer", "answer"));

    let limited = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(9)))
        .concurrency_limit(1)
        .service(Strict::after(secs(1)));
    let calls = (0..3).map(|_| tokio::spawn(limited.clone().oneshot(request())));
    let (took, ()) = timed(async {
        for call in calls.collect::<Vec<_>>() {
            assert_eq!(call.await.unwrap().unwrap(), "answer");
        }
    })
    .await;
    assert_eq!(took, secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_free_the_moment_the_deadline_has_passed() {
    let limited = ServiceBuilder::new()
        .layer(DeadlineLayer::from_context())
        .concurrency_limit(1)
        .service(Record::default().answers(secs(1)));
    let mut first = task::spawn(limited.clone().call(due(millis(10))));
    assert_pending!(first.poll());
    advance(millis(10)).await;
    assert_ready_err!(first.poll());
    // `first` is still alive.
    assert_eq!(limited.oneshot(due(secs(1))).await.unwrap(), "answer");
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn a_readiness_error_is_returned() {
    let (mut service, mut handle) =
        mock::spawn_layer::<Request, &str, _>(DeadlineLayer::new(secs(1)));
    handle.send_error("broken");
    assert_ready!(service.poll_ready()).unwrap();
    let error = service.call(request()).await.unwrap_err();
    assert_eq!(error.to_string(), "broken");
}

#[tokio::test(start_paused = true)]
async fn a_grace_lets_the_work_clean_up_and_is_bounded() {
    for (tidy, took, dropped) in [(2, 3, false), (60, 6, true)] {
        let record = Record::default();
        let layer = DeadlineLayer::new(secs(1)).with_grace(secs(5));
        let service = layer.layer(record.tidies(secs(tidy)));
        let (time, result) = timed(service.oneshot(request())).await;
        assert_eq!(time, secs(took));
        assert_eq!(elapsed(result), (Scope::Deadline, Stage::Running, secs(1)));
        assert_eq!(record.drops() == [Cause::Deadline], dropped);
        assert_eq!(record.context().cancel.cause(), Some(Cause::Deadline));
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_readiness_gets_no_grace() {
    let layer = DeadlineLayer::new(secs(1)).with_grace(secs(5));
    let (took, result) = timed(layer.layer(NeverReady).oneshot(request())).await;
    assert_eq!(took, secs(1));
    assert_eq!(elapsed(result).1, Stage::Waiting);
}

#[test]
fn the_layer_and_the_service_fit_a_router() {
    fn shared<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>(_: &T) {}
    shared::<DeadlineLayer>();
    shared::<DeadlineService<Mocked>>();
    let mut service = DeadlineLayer::new(secs(1)).layer(Strict::after(secs(1)));
    assert_eq!(service.get_ref().delay, secs(1));
    service.get_mut().delay = secs(2);
    sent(&service.call(request()));
    assert_eq!(service.into_inner().delay, secs(2));
}
