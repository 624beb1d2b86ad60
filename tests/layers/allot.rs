use std::time::Duration;

use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, task};
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_dspy::{
    Allot, AllotLayer, Cause, Classify, DeadlineLayer, Elapsed, ErrorKind, Latency, Percentile,
    Scope, Stage,
};

use super::support::*;

/// What a call with `left` of its time gets from `layer`, if it is not refused.
async fn share(layer: &AllotLayer, left: Duration) -> Option<Duration> {
    let record = Record::default();
    let start = Instant::now();
    let result = layer
        .layer(record.answers(Duration::ZERO))
        .oneshot(due(left))
        .await;
    if result.is_err() {
        assert_eq!(record.calls(), 0);
        return None;
    }
    let deadline = record.context().deadline.unwrap();
    Some(deadline.instant() - start)
}

#[tokio::test(start_paused = true)]
async fn shares_are_exact() {
    let fraction = |fraction| AllotLayer::fraction(fraction).unwrap();
    for (layer, left, expected) in [
        (AllotLayer::even(3), secs(9), secs(3)),
        (AllotLayer::even(1), secs(9), secs(9)),
        (AllotLayer::even(0), secs(9), secs(9)),
        (AllotLayer::even(3), secs(10), Duration::new(3, 333_333_333)),
        (fraction(0.3), secs(10), secs(3)),
        (fraction(0.1), millis(1), Duration::from_micros(100)),
        (fraction(1.0), secs(10), secs(10)),
        (
            fraction(1.0 / 3.0),
            secs(3),
            Duration::from_nanos(999_999_999),
        ),
        (AllotLayer::all_but(secs(2)), secs(10), secs(8)),
        (AllotLayer::all_but(Duration::ZERO), secs(10), secs(10)),
    ] {
        assert_eq!(share(&layer, left).await, Some(expected), "{layer:?}");
    }
    assert_eq!(share(&AllotLayer::all_but(secs(2)), secs(2)).await, None);
    assert_eq!(
        share(&AllotLayer::all_but(Duration::MAX), secs(2)).await,
        None
    );
    assert_eq!(share(&AllotLayer::even(3), Duration::ZERO).await, None);
    // A deadline as far away as can be.
    let far = share(&fraction(0.5), Duration::MAX).await.unwrap();
    assert_eq!(far, secs(86_400 * 365 * 15));
}

#[test]
fn a_fraction_outside_zero_to_one_is_refused() {
    for fraction in [0.0, -0.1, 1.1, 30.0, 1e-10, f64::NAN] {
        let error = AllotLayer::fraction(fraction).unwrap_err();
        assert!(error.to_string().contains("fraction"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_is_stopped_at_the_end_of_its_share() {
    for (delay, answers) in [(2_999, true), (3_000, true), (3_001, false)] {
        let record = Record::default();
        let service = Allot::new(record.answers(millis(delay)), 3);
        let (took, result) = timed(service.oneshot(due(secs(9)))).await;
        assert_eq!(took, millis(delay.min(3_000)));
        if answers {
            assert_eq!(result.unwrap(), "answer");
        } else {
            assert_eq!(elapsed(result), (Scope::Share, Stage::Running, secs(3)));
            assert_eq!(record.drops(), [Cause::Elapsed]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn time_saved_by_one_step_goes_to_the_later_steps() {
    let request = due(secs(9));
    let step = |steps, delay| {
        let service = Allot::new(Record::default().answers(delay), steps);
        timed(service.oneshot(request.clone()))
    };
    let (took, result) = step(3, secs(1)).await;
    assert_eq!((took, result.unwrap()), (secs(1), "answer"));
    let (took, result) = step(2, secs(60)).await;
    assert_eq!(took, secs(4));
    elapsed(result);
    let (took, result) = step(1, secs(60)).await;
    assert_eq!(took, secs(4));
    assert_eq!(elapsed(result).0, Scope::Deadline);
}

#[tokio::test(start_paused = true)]
async fn nested_steps_add_up_to_the_deadline() {
    let start = Instant::now();
    let chain = tower::service_fn(move |request: Request| async move {
        let step = |steps| Allot::new(Record::default().answers(secs(60)), steps);
        let first = step(2).oneshot(request.clone()).await;
        assert_eq!(
            elapsed(first),
            (Scope::Share, Stage::Running, millis(1_500))
        );
        assert_eq!(start.elapsed(), millis(1_500));
        step(1).oneshot(request).await
    });
    let call = due(secs(6));
    let (took, result) = timed(Allot::new(chain, 2).oneshot(call.clone())).await;
    // The end of the last inner step is that of the outer one, which names it.
    assert_eq!(took, secs(3));
    assert_eq!(elapsed(result), (Scope::Share, Stage::Running, secs(3)));
    let last = Allot::new(Record::default().answers(secs(60)), 1);
    let (took, result) = timed(last.oneshot(call)).await;
    assert_eq!(took, secs(3));
    assert_eq!(elapsed(result), (Scope::Deadline, Stage::Running, secs(3)));
}

#[tokio::test(start_paused = true)]
async fn a_share_equal_to_the_deadline_is_ended_by_the_layer_that_set_the_deadline() {
    let record = Record::default();
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(5)))
        .layer(AllotLayer::even(1))
        .service(record.answers(secs(60)));
    let (took, result) = timed(service.oneshot(request())).await;
    assert_eq!(took, secs(5));
    assert_eq!(elapsed(result), (Scope::Deadline, Stage::Running, secs(5)));
    assert_eq!(record.drops(), [Cause::Deadline]);
}

#[tokio::test(start_paused = true)]
async fn without_a_deadline_there_is_no_share() {
    let record = Record::default();
    let service = Allot::new(record.answers(secs(3_600)), 3);
    assert_eq!(service.oneshot(request()).await.unwrap(), "answer");
    assert!(record.context().deadline.is_none());

    let layer = AllotLayer::even(3).with_default(secs(4));
    let (took, result) = timed(layer.layer(record.answers(secs(3_600))).oneshot(request())).await;
    assert_eq!(took, secs(4));
    assert_eq!(elapsed(result), (Scope::Share, Stage::Running, secs(4)));
    // It is no bound for those that have one.
    assert_eq!(share(&layer, secs(60)).await, Some(secs(20)));
}

#[tokio::test(start_paused = true)]
async fn the_share_covers_the_wait_for_the_service() {
    let service = Allot::new(NeverReady, 2);
    let (took, result) = timed(service.oneshot(due(secs(6)))).await;
    assert_eq!(took, secs(3));
    assert_eq!(elapsed(result), (Scope::Share, Stage::Waiting, secs(3)));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_call_drops_the_work_without_a_cause() {
    let record = Record::default();
    let mut call = task::spawn(Allot::new(record.answers(secs(9)), 2).oneshot(due(secs(9))));
    assert_pending!(call.poll());
    advance(secs(1)).await;
    drop(call);
    assert_eq!(record.drops(), [Cause::Dropped]);
}

#[tokio::test(start_paused = true)]
async fn a_grace_lets_the_work_clean_up() {
    let record = Record::default();
    let layer = AllotLayer::even(3).with_grace(secs(5));
    let service = layer.layer(record.tidies(secs(2)));
    let (took, result) = timed(service.oneshot(due(secs(9)))).await;
    assert_eq!(took, secs(5));
    assert_eq!(elapsed(result), (Scope::Share, Stage::Running, secs(3)));
    assert_eq!(record.context().cancel.cause(), Some(Cause::Elapsed));
    assert!(record.drops().is_empty());
}

/// One that takes 5 s.
fn learnt() -> Latency {
    let latency = Latency::default();
    for _ in 0..100 {
        latency.record(secs(5));
    }
    latency
}

#[tokio::test(start_paused = true)]
async fn infeasible_steps_are_counted_and_refused_only_if_asked() {
    let observe = AllotLayer::even(2).with_latency(learnt(), Percentile::P50);
    assert_eq!(share(&observe, secs(8)).await, Some(secs(4)));
    assert_eq!(observe.infeasible(), 1);
    assert_eq!(share(&observe, secs(12)).await, Some(secs(6)));
    assert_eq!(observe.infeasible(), 1);

    let refuse = observe.clone().reject_infeasible();
    let record = Record::default();
    let service = refuse.layer(record.answers(secs(1)));
    let (took, result) = timed(service.clone().oneshot(due(secs(8)))).await;
    assert_eq!(took, Duration::ZERO);
    assert_eq!(elapsed(result), (Scope::Share, Stage::BeforeStart, secs(4)));
    assert_eq!(record.calls(), 0);
    assert_eq!(refuse.infeasible(), 2);
    assert_eq!(service.oneshot(due(secs(12))).await.unwrap(), "answer");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_layer_refuses_infeasible_calls_too() {
    for refuse in [false, true] {
        let mut layer = DeadlineLayer::new(secs(60)).with_latency(learnt(), Percentile::P50);
        if refuse {
            layer = layer.reject_infeasible();
        }
        let record = Record::default();
        let service = layer.layer(record.answers(secs(1)));
        let (took, result) = timed(service.clone().oneshot(due(secs(4)))).await;
        if refuse {
            assert_eq!(took, Duration::ZERO);
            let error = result.unwrap_err().downcast::<Elapsed>().unwrap();
            assert_eq!(error.stage(), Stage::BeforeStart);
            assert_eq!(error.limit(), secs(4));
            assert_eq!(error.kind(), ErrorKind::Deadline);
            assert_eq!(
                error.to_string(),
                "the call's deadline (4s) is less than such calls take; the call was not started"
            );
        } else {
            assert_eq!(result.unwrap(), "answer");
        }
        assert_eq!(record.calls(), usize::from(!refuse));
        assert_eq!(layer.infeasible(), 1);
        assert_eq!(service.oneshot(request()).await.unwrap(), "answer");
        assert_eq!(layer.infeasible(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_infeasible_call_is_refused_at_once_within_a_layer_that_set_its_limit() {
    let refuse = DeadlineLayer::from_context()
        .with_latency(learnt(), Percentile::P50)
        .reject_infeasible();
    let record = Record::default();
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(4)))
        .layer(refuse)
        .service(record.answers(secs(1)));
    let (took, result) = timed(service.oneshot(request())).await;
    assert_eq!(took, Duration::ZERO);
    let expected = (Scope::Deadline, Stage::BeforeStart, secs(4));
    assert_eq!(elapsed(result), expected);
    assert_eq!(record.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn calls_are_accepted_again_once_the_slow_latencies_are_forgotten() {
    let service = AllotLayer::even(1)
        .with_latency(learnt(), Percentile::P50)
        .reject_infeasible()
        .layer(Record::default().answers(secs(1)));
    elapsed(service.clone().oneshot(due(secs(4))).await);
    advance(secs(60)).await;
    assert_eq!(service.oneshot(due(secs(4))).await.unwrap(), "answer");
}

#[test]
fn an_elapsed_share_is_retryable() {
    let error = Elapsed::new(Scope::Share, Stage::Running, secs(3));
    assert_eq!(error.kind(), ErrorKind::Elapsed);
    assert_eq!(
        error.to_string(),
        "this step's share of the time left (3s) passed; the call was told to stop"
    );
}

#[test]
fn the_layer_and_the_service_fit_a_router() {
    fn shared<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>(_: &T) {}
    shared::<AllotLayer>();
    shared::<Allot<Mocked>>();
    let mut service = AllotLayer::new(2).layer(Strict::after(secs(1)));
    assert_eq!(service.get_ref().delay, secs(1));
    service.get_mut().delay = secs(2);
    assert_eq!(service.clone().into_inner().delay, secs(2));
    sent(&service.map_future(|call| {
        sent(&call);
        call
    }));
}
