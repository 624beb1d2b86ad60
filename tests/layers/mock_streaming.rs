//! The mock as a streaming service.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use serde_json::json;
use tokio::time::advance;
use tokio_test::{assert_pending, task};
use tower::{Service, ServiceExt};
use tower_dspy::{
    Cancel, Cause, Classify, Deadline, ErrorKind, PredictRequest, Scope, StreamEvent,
    testing::mock::{CallEnd, MockDspy, Reply},
};

use super::{
    script::{answer, request},
    stream_support::{read, text},
    support::{millis, secs, timed},
};

const NONE: Duration = Duration::ZERO;

#[tokio::test(start_paused = true)]
async fn the_events_come_at_their_times() {
    let reply = Reply::text("answer", ["a", "", "b", "c"])
        .pause(secs(1))
        .after(secs(5));
    let mock = MockDspy::new([reply]);
    let (took, stream) = timed(mock.streaming().oneshot(request())).await;
    assert_eq!(took, secs(5));
    assert_eq!(mock.in_flight(), 1);
    let mut stream = stream.unwrap();
    let mut next = async || timed(stream.next()).await;
    for (delta, after) in [("a", 0), ("b", 1), ("c", 1)] {
        let (took, event) = next().await;
        assert_eq!(event.unwrap().unwrap(), text(delta));
        assert_eq!(took, secs(after));
    }
    let (took, done) = next().await;
    let Some(Ok(StreamEvent::Done(prediction))) = done else {
        panic!("{done:?}");
    };
    assert_eq!((took, prediction.elapsed), (secs(1), secs(8)));
    assert_eq!(json!(prediction.outputs), json!({"answer": "abc"}));
    assert!(stream.next().await.is_none());
    assert_eq!(
        (mock.calls()[0].end, mock.in_flight()),
        (Some(CallEnd::Answered), 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_is_streamed_as_one_event() {
    let mock = MockDspy::new([Reply::answer("blue").after(secs(2))]);
    let (took, stream) = timed(mock.streaming().oneshot(request())).await;
    let read = read(stream.unwrap(), NONE).await;
    assert_eq!((took, &*read.text), (secs(2), ""));
    assert_eq!(read.end.unwrap().outputs["answer"], "blue");
}

#[tokio::test(start_paused = true)]
async fn a_call_for_the_whole_answer_takes_as_long_as_the_stream() {
    let mock = MockDspy::new([
        Reply::text("answer", ["a", "b"])
            .pause(secs(1))
            .after(secs(5)),
        Reply::text("answer", ["a"]).then(Reply::fail(ErrorKind::Program).after(secs(3))),
    ]);
    let (took, result) = timed(mock.clone().oneshot(request())).await;
    assert_eq!(
        (took, &result.unwrap().outputs["answer"]),
        (secs(7), &json!("ab"))
    );
    let (took, result) = timed(mock.clone().oneshot(request())).await;
    assert_eq!(
        (took, result.unwrap_err().kind()),
        (secs(3), ErrorKind::Program)
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_before_the_first_event_is_that_of_the_response() {
    let mock = MockDspy::new([
        Reply::fail(ErrorKind::LmUnavailable).after(secs(1)),
        Reply::text("answer", ["a"]).then(Reply::fail(ErrorKind::LmUnavailable)),
    ]);
    let error = mock.streaming().oneshot(request()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LmUnavailable);
    let read = read(mock.streaming().oneshot(request()).await.unwrap(), NONE).await;
    assert_eq!(
        (&*read.text, read.end.unwrap_err().kind()),
        ("a", ErrorKind::LmUnavailable)
    );
    let failed = Some(CallEnd::Failed(ErrorKind::LmUnavailable));
    let ends: Vec<_> = mock.calls().iter().map(|call| call.end).collect();
    assert_eq!(ends, [failed, failed]);
}

#[tokio::test(start_paused = true)]
async fn events_of_any_kind_are_played_and_then_nothing_comes() {
    let events = [
        StreamEvent::Status {
            message: "searching".into(),
        },
        text("a"),
        StreamEvent::Restart {
            lm_call: 1,
            predictor: "self".into(),
        },
    ];
    let done = StreamEvent::Done(Box::new(answer("b")));
    let mock = MockDspy::new([
        Reply::stream(events.clone()),
        Reply::stream(events.iter().cloned().chain([done])),
    ]);
    let mut stream = mock.streaming().oneshot(request()).await.unwrap();
    for event in &events {
        assert_eq!(&stream.next().await.unwrap().unwrap(), event);
    }
    assert!(stream.next().now_or_never().is_none());
    drop(stream);
    assert_eq!(mock.stopped(), [Cause::Dropped]);
    let stream = mock.streaming().oneshot(request()).await.unwrap();
    assert_eq!(stream.prediction().await.unwrap().outputs["answer"], "b");
}

#[tokio::test(start_paused = true)]
async fn the_permit_is_held_until_the_stream_has_ended() {
    let mock = MockDspy::from_fn(|_| Reply::text("answer", ["a"])).max_in_flight(1);
    let mut other = task::spawn(mock.streaming());
    let mut stream = mock.streaming().oneshot(request()).await.unwrap();
    assert_pending!(other.enter(|cx, mut service| service.poll_ready(cx)));
    assert!(stream.next().await.unwrap().is_ok());
    assert!(!other.is_woken());
    stream.next().await.unwrap().unwrap();
    assert!(other.is_woken() && mock.in_flight() == 0);
}

#[tokio::test(start_paused = true)]
async fn requests_are_refused_as_calls_are() {
    let mock = MockDspy::new([Reply::text("answer", ["a"])]).inputs(["question"]);
    for (request, kind) in [
        (
            PredictRequest::new(json!({"n": 1})),
            ErrorKind::InvalidInput,
        ),
        (request().with_lm("none"), ErrorKind::InvalidInput),
        (
            request().with_deadline(Deadline::within(NONE)),
            ErrorKind::Deadline,
        ),
    ] {
        let error = mock.streaming().oneshot(request).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    let busy = mock.clone().max_in_flight(1).max_waiting(0);
    let _busy = busy.busy();
    let error = busy.streaming().oneshot(request()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(mock.replies_left(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_and_the_deadline_end_the_stream() {
    let mock = MockDspy::from_fn(|_| Reply::text("answer", ["a"]).then(Reply::hang()));
    let cancel = Cancel::new();
    let cancelled = request().with_cancel(cancel.clone());
    let stream = mock.streaming().oneshot(cancelled).await.unwrap();
    let stream = tokio::spawn(read(stream, NONE));
    advance(secs(1)).await;
    cancel.cancel(Cause::Caller);
    let read_there = stream.await.unwrap();
    assert_eq!(
        read_there.end.unwrap_err().cancel_cause(),
        Some(Cause::Caller)
    );

    let due = request().with_deadline(Deadline::within(secs(3)));
    let stream = mock.streaming().oneshot(due).await.unwrap();
    let read = read(stream, NONE).await;
    assert_eq!((&*read.text, read.took), ("a", secs(3)));
    assert_eq!(read.elapsed(), (Scope::Deadline, secs(3)));
    assert_eq!(mock.stopped(), [Cause::Caller, Cause::Deadline]);
    assert_eq!(mock.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn work_that_lingers_is_in_flight_after_the_stream_was_dropped() {
    let reply = Reply::text("answer", ["a"]).then(Reply::hang().lingers(secs(2)));
    let mock = MockDspy::new([reply]);
    let stream = mock.streaming().oneshot(request()).await.unwrap();
    drop(stream);
    assert_eq!(
        (mock.stopped(), mock.in_flight()),
        (vec![Cause::Dropped], 1)
    );
    let (took, ()) = timed(mock.wait_for(|calls| !calls[0].in_flight)).await;
    assert_eq!(took, secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_dropped_before_the_first_event_stops_the_call() {
    let mock = MockDspy::new([Reply::text("answer", ["a"]).after(secs(9))]);
    let response = mock.streaming().oneshot(request());
    assert!(tokio::time::timeout(millis(1), response).await.is_err());
    assert_eq!(
        (mock.stopped(), mock.in_flight()),
        (vec![Cause::Dropped], 0)
    );
}
