//! Timelines of tracked calls, and the samples that a tracker keeps of them.

use serde_json::json;
use tokio::time::{advance, sleep};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_dspy::{
    Backoff, CallStatus, CancelLayer, Cause, DeadlineLayer, ErrorKind, FallbackLayer, HedgeLayer,
    Prediction, RetryLayer, TimeoutLayer, TrackLayer, Tracker,
    timeline::{AnswerSource, AttemptKind, CallTimeline, OutcomeClass, TookClass},
};

use crate::{
    script::{Log, busy},
    support::*,
};

fn sampled(tracker: &Tracker, class: OutcomeClass) -> CallTimeline {
    let [call] = tracker.sampled("qa", class).try_into().unwrap();
    call
}

fn tracked() -> (Tracker, TrackLayer) {
    let tracker = Tracker::new().with_samples(10);
    let layer = TrackLayer::new(tracker.clone()).with_label("qa");
    (tracker, layer)
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_sampled_by_the_share_of_its_time_and_by_its_duration() {
    let (tracker, layer) = tracked();
    let service = layer.layer(Record::default().answers(secs(3)));
    let mut call = task::spawn(service.oneshot(due(secs(10))));
    assert_pending!(call.poll());
    advance(secs(1)).await;
    let [under_way] = tracker.timelines(9).try_into().unwrap();
    assert_eq!(
        tracker.timeline(under_way.id.unwrap()),
        Some(under_way.clone())
    );
    assert_eq!(
        (under_way.read, under_way.deadline),
        (secs(1), Some(secs(10)))
    );
    assert_eq!((under_way.answered, under_way.class()), (None, None));
    advance(secs(2)).await;
    assert_ready!(call.poll()).unwrap();

    let call = sampled(&tracker, OutcomeClass::Within50);
    let answer = call.answered.unwrap();
    assert_eq!((answer.at, answer.status), (secs(3), CallStatus::Completed));
    assert_eq!((answer.kind, answer.source), (None, AnswerSource::Service));
    assert_eq!((call.settled, call.name()), (Some(secs(3)), "qa"));
    let took = TookClass::all()
        .find(|class| class.from() == secs(1))
        .unwrap();
    assert_eq!(tracker.sampled_by_time("qa", took).len(), 1);
    let [program] = tracker.programs().try_into().unwrap();
    assert_eq!((&*program.name, program.running), ("qa", 0));
    assert_eq!(
        program.outcomes.into_iter().collect::<Vec<_>>(),
        [(OutcomeClass::Within50, 1)]
    );
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_layer_further_in_and_the_attempts_of_a_retry_are_seen() {
    let (tracker, layer) = tracked();
    let service = ServiceBuilder::new()
        .layer(layer)
        .layer(DeadlineLayer::new(secs(9)))
        .layer(RetryLayer::new(2).with_backoff(Backoff::fixed(secs(1))))
        .layer(TimeoutLayer::new(secs(2)))
        .service(Record::default().answers(secs(3600)));
    let started = tokio::time::Instant::now();
    service.oneshot(request()).await.unwrap_err();
    assert_eq!(started.elapsed(), secs(8));
    let call = sampled(&tracker, OutcomeClass::AttemptLimit);
    assert_eq!(call.deadline, Some(secs(9)));
    assert_eq!(call.answered.unwrap().kind, Some(ErrorKind::Elapsed));
    let begun: Vec<_> = call.attempts.iter().map(|of| (of.kind, of.begun)).collect();
    let expected = [
        (AttemptKind::First, secs(0)),
        (AttemptKind::Retry, secs(3)),
        (AttemptKind::Retry, secs(6)),
    ];
    assert_eq!(begun, expected);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_its_deadline_ends_is_late_and_a_dropped_one_is_cancelled() {
    let (tracker, layer) = tracked();
    let service = ServiceBuilder::new()
        .layer(layer)
        .layer(DeadlineLayer::new(secs(2)))
        .service(Record::default().answers(secs(3600)));
    service.clone().oneshot(request()).await.unwrap_err();
    let late = sampled(&tracker, OutcomeClass::Late);
    assert_eq!(late.answered.unwrap().kind, Some(ErrorKind::Deadline));

    let mut dropped = task::spawn(service.oneshot(request()));
    assert_pending!(dropped.poll());
    drop(dropped);
    let dropped = sampled(&tracker, OutcomeClass::Cancelled).answered.unwrap();
    let cause = Cause::Dropped;
    assert_eq!(
        (dropped.status, dropped.dropped),
        (CallStatus::Cancelled { cause }, true)
    );
}

fn sorry() -> Prediction {
    Prediction::new(
        [("answer".to_owned(), json!("no idea"))]
            .into_iter()
            .collect(),
    )
}

#[tokio::test(start_paused = true)]
async fn a_fallback_and_a_hedge_are_named() {
    let (tracker, layer) = tracked();
    let service = ServiceBuilder::new()
        .layer(layer)
        .layer(FallbackLayer::value(sorry()))
        .layer(HedgeLayer::after(secs(1)))
        .service(Log::default().service(async |_| {
            sleep(secs(2)).await;
            Err(busy(None))
        }));
    let answer = service.oneshot(crate::script::request()).await;
    assert_eq!(answer.unwrap().outputs, sorry().outputs);
    let call = sampled(&tracker, OutcomeClass::FellBack);
    assert_eq!(call.answered.unwrap().source, AnswerSource::Fallback);
    let hedge = call
        .attempts
        .iter()
        .find(|of| of.kind == AttemptKind::Hedge);
    assert_eq!(
        hedge.map(|hedge| (hedge.number, hedge.begun)),
        Some((1, secs(1)))
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_is_settled_when_the_call_has_ended() {
    let (tracker, layer) = tracked();
    let service = ServiceBuilder::new()
        .layer(layer)
        .layer(CancelLayer::new())
        .service(Record::default().answers(secs(3600)));
    let call = tokio::spawn(service.oneshot(request()));
    tokio::task::yield_now().await;
    let id = tracker.calls()[0].id;
    let cancellation = tracker.cancel(id);
    assert_eq!((cancellation.signalled(), cancellation.count()), (true, 1));
    cancellation.settled().await;
    assert!(tracker.is_empty());
    assert!(call.await.unwrap().is_err());
    let again = tracker.cancel(id);
    assert!(!again.signalled());
    again.settled().await;
    assert_eq!(tracker.timeline(id).unwrap().settled, Some(secs(0)));
}

#[tokio::test(start_paused = true)]
async fn live_timelines_are_bounded_and_those_with_the_least_time_left_come_first() {
    let (tracker, layer) = tracked();
    let mut service = layer.layer(Record::default().answers(secs(3600)));
    let mut calls: Vec<_> = [9, 3, 6]
        .map(|limit| task::spawn(service.call(due(secs(limit)))))
        .into();
    calls.push(task::spawn(service.call(request())));
    let deadlines = |most| {
        let calls = tracker.timelines(most).into_iter();
        calls.map(|call| call.deadline).collect::<Vec<_>>()
    };
    assert_eq!(
        deadlines(9),
        [Some(secs(3)), Some(secs(6)), Some(secs(9)), None]
    );
    assert_eq!(deadlines(2), [Some(secs(3)), Some(secs(6))]);
    assert_eq!(tracker.programs()[0].waiting, 4);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_without_samples() {
    let tracker = Tracker::new();
    let service = TrackLayer::new(tracker.clone()).layer(Record::default().answers(secs(0)));
    service.oneshot(request()).await.unwrap();
    assert!(tracker.programs().is_empty());
}
