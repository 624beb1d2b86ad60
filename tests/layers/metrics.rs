//! The metrics of layers, in a recorder of the test.

use std::{collections::BTreeMap, time::Duration};

use metrics_util::{
    CompositeKey,
    debugging::{DebugValue, DebuggingRecorder, Snapshotter},
};
use tokio::time::sleep;
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    Backoff, Cause, DeadlineLayer, Elapsed, Error, HedgeLayer, RetryBudget, RetryLayer, Scope,
    Stage, TrackLayer, Tracker, WithContext,
    layers::RetryBudgetOptions,
    metrics::{Gauges, buckets},
};

const SECOND: Duration = Duration::from_secs(1);

/// What is known of each metric: the sum of a counter, the value of a gauge, the values of a
/// histogram. The labels are in the name.
fn read(snapshotter: &Snapshotter) -> BTreeMap<String, Vec<f64>> {
    let name = |key: &CompositeKey| {
        let labels = key.key().labels();
        let labels: Vec<_> = labels
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        format!("{}{{{}}}", key.key().name(), labels.join(","))
    };
    let values = |value: DebugValue| match value {
        DebugValue::Counter(n) => vec![n as f64],
        DebugValue::Gauge(value) => vec![value.into_inner()],
        DebugValue::Histogram(values) => values.into_iter().map(f64::from).collect(),
    };
    let read = snapshotter.snapshot().into_vec().into_iter();
    read.map(|(key, _, _, value)| (name(&key), values(value)))
        .collect()
}

type Request = WithContext<u64>;

/// Answers after so many seconds.
async fn answer(request: Request) -> Result<u64, Error> {
    sleep(request.request as u32 * SECOND).await;
    Ok(request.request)
}

#[tokio::test(start_paused = true)]
async fn a_tracked_call_is_counted_by_its_end_with_the_time_it_left() {
    let recorder = DebuggingRecorder::new();
    let tracker = Tracker::new();
    let service = ServiceBuilder::new()
        .layer(TrackLayer::new(tracker.clone()).with_label("qa"))
        .layer(DeadlineLayer::new(4 * SECOND))
        .service_fn(answer);
    // A call before there is a recorder: the handles of that are not kept.
    service.clone().oneshot(WithContext::new(1)).await.unwrap();

    let _installed = metrics::set_default_local_recorder(&recorder);
    let call = |seconds| service.clone().oneshot(WithContext::new(seconds));
    assert!(call(1).await.is_ok());
    assert!(call(3).await.is_ok());
    assert!(call(9).await.is_err());
    let dropped = tokio::time::timeout(SECOND, call(9)).await;
    assert!(dropped.is_err());

    let read = read(&recorder.snapshotter());
    let value = |name: &str| read.get(name).cloned().unwrap_or_default();
    let calls = |labels: &str| value(&format!("tower_dspy.calls{{program=qa,{labels}}}"));
    assert_eq!(calls("outcome=completed"), [2.0]);
    assert_eq!(calls("outcome=timed_out,kind=deadline"), [1.0]);
    assert_eq!(calls("outcome=cancelled,cause=dropped"), [1.0]);
    let duration = |of: &str| {
        value(&format!(
            "tower_dspy.call.duration{{program=qa,outcome={of}}}"
        ))
    };
    assert_eq!(duration("completed"), [1.0, 3.0]);
    assert_eq!(
        (duration("timed_out"), duration("cancelled")),
        (vec![4.0], vec![1.0])
    );
    assert_eq!(
        value("tower_dspy.call.time_left{program=qa}"),
        [3.0, 1.0, 0.0, 3.0]
    );
    assert_eq!(
        value("tower_dspy.call.deadline_used{program=qa}"),
        [0.25, 0.75, 1.0, 0.25]
    );
    assert!(value("tower_dspy.call.overshoot{program=qa}").is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_recorder_has_the_calls_that_end_under_it_whatever_its_address() {
    let service = ServiceBuilder::new()
        .layer(TrackLayer::new(Tracker::new()).with_label("qa"))
        .service_fn(answer);
    // Dropped one after the other, they may lie at one address.
    for _ in 0..8 {
        let recorder = Box::new(DebuggingRecorder::new());
        let installed = metrics::set_default_local_recorder(&recorder);
        service.clone().oneshot(WithContext::new(1)).await.unwrap();
        drop(installed);
        let read = read(&recorder.snapshotter());
        let calls = &read["tower_dspy.calls{program=qa,outcome=completed}"];
        assert_eq!(calls, &[1.0]);
    }
}

#[tokio::test(start_paused = true)]
async fn retries_that_a_budget_refuses_are_counted_and_those_left_at_rest_are_not() {
    let recorder = DebuggingRecorder::new();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let budget = RetryBudget::new(RetryBudgetOptions::permille(500).with_reserve(0));
    Gauges::new().observe_budget("b", &budget).sample();
    let refused = || read(&recorder.snapshotter())["tower_dspy.retry.refused{}"].clone();
    assert_eq!(refused(), [0.0]);
    let service = ServiceBuilder::new()
        .layer(
            RetryLayer::new(1)
                .with_backoff(Backoff::fixed(Duration::ZERO))
                .with_budget(budget),
        )
        .service_fn(|_: Request| async {
            let elapsed = Elapsed::new(Scope::Attempt, Stage::Running, SECOND);
            Err::<u64, _>(Error::from(elapsed))
        });
    // Two requests deposit one retry.
    for _ in 0..3 {
        assert!(service.clone().oneshot(WithContext::new(0)).await.is_err());
    }
    assert_eq!(refused(), [2.0]);
}

#[tokio::test(start_paused = true)]
async fn retries_and_hedges_are_counted_when_they_are_sent() {
    let recorder = DebuggingRecorder::new();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let retried = ServiceBuilder::new()
        .layer(RetryLayer::new(2).with_backoff(Backoff::fixed(Duration::ZERO)))
        .service_fn(|_: Request| async {
            let elapsed = Elapsed::new(Scope::Attempt, Stage::Running, SECOND);
            Err::<u64, _>(Error::from(elapsed))
        });
    let retried = retried.oneshot(WithContext::new(0)).await;
    assert!(matches!(retried, Err(Error::Elapsed(_))));

    let first = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let hedged = ServiceBuilder::new()
        .layer(HedgeLayer::after(SECOND).with_budget(RetryBudget::unlimited()))
        .service_fn(move |_: Request| {
            let is_first = first.swap(false, std::sync::atomic::Ordering::Relaxed);
            answer(WithContext::new(if is_first { 9 } else { 1 }))
        });
    assert_eq!(hedged.oneshot(WithContext::new(0)).await.unwrap(), 1);

    let read = read(&recorder.snapshotter());
    let value = |name: &str| read.get(name).cloned().unwrap_or_default();
    assert_eq!(value("tower_dspy.retry.attempts{}"), [2.0]);
    assert_eq!(value("tower_dspy.hedge.sent{}"), [1.0]);
    assert_eq!(value("tower_dspy.hedge.won{}"), [1.0]);
}

#[tokio::test(start_paused = true)]
async fn gauges_are_what_trackers_and_budgets_are_when_they_are_sampled() {
    let recorder = DebuggingRecorder::new();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let tracker = Tracker::new();
    let budget = RetryBudget::new(RetryBudgetOptions::permille(0).with_reserve(1));
    let gauges = Gauges::new()
        .observe_tracker("t", &tracker)
        .observe_budget("b", &budget)
        .observe_budget("unlimited", &RetryBudget::unlimited());
    let service = ServiceBuilder::new()
        .layer(TrackLayer::new(tracker.clone()))
        .service_fn(answer);
    let call = tokio::spawn(service.oneshot(WithContext::new(9)));
    sleep(SECOND).await;
    let _ = tracker.cancel_all(Cause::Caller);
    gauges.sample();

    let read = read(&recorder.snapshotter());
    let expected = [
        ("tower_dspy.in_flight{tracker=t}", 1.0),
        ("tower_dspy.retry.attempts{}", 0.0),
        ("tower_dspy.retry.budget{budget=b}", 10.0),
        ("tower_dspy.retry.refused{}", 0.0),
        ("tower_dspy.stopping{tracker=t}", 1.0),
        ("tower_dspy.waiting{tracker=t}", 0.0),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), vec![value]));
    assert_eq!(read, BTreeMap::from(expected));
    call.abort();
}

#[test]
fn the_buckets_are_those_of_the_conventions() {
    let buckets: BTreeMap<_, _> = buckets().collect();
    let seconds = buckets["gen_ai.client.operation.duration"];
    assert_eq!(
        (seconds.first(), seconds.last(), seconds.len()),
        (Some(&0.01), Some(&81.92), 14)
    );
    assert!(seconds.windows(2).all(|pair| pair[1] / pair[0] == 2.0));
    let tokens = buckets["gen_ai.client.token.usage"];
    assert_eq!(
        (tokens.first(), tokens.last()),
        (Some(&1.0), Some(&67_108_864.0))
    );
    assert!(tokens.windows(2).all(|pair| pair[1] / pair[0] == 4.0));
}
