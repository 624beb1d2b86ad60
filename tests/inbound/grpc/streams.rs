//! Answers that are read as they are written.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_dspy::{
    Cause, Classify, Deadline, Error, ErrorKind, LmError, PredictRequest, Prediction,
    PredictionStream, RetryLayer, Scope, StreamEvent, StreamTimeoutLayer, TimeoutLayer,
    inbound::tonic::Programs,
    outbound::tonic::ProgramClient,
    testing::mock::{MockDspy, Reply},
};

use super::{LONG, Node, SOON, connected, secs, seen, why};

/// The program `qa`, which streams.
async fn streaming(mock: &MockDspy) -> Node {
    let programs = Programs::new();
    let programs = programs.program_streaming("qa", mock.clone(), mock.streaming());
    Node::start(programs).await
}

pub(super) fn text(delta: &str) -> StreamEvent {
    StreamEvent::Text {
        lm_call: 1,
        predictor: "self".into(),
        field: "answer".into(),
        delta: delta.into(),
    }
}

/// One text, and then nothing.
fn stalls() -> Reply {
    Reply::text("answer", ["bl"]).then(Reply::hang())
}

pub(super) async fn next(stream: &mut PredictionStream) -> Result<StreamEvent, Error> {
    let next = tokio::time::timeout(SOON, stream.next()).await;
    next.expect("nothing came").expect("an end before `None`")
}

/// The text, and the answer or the error after it.
async fn read(mut stream: PredictionStream) -> (String, Result<Prediction, Error>) {
    let mut text = String::new();
    loop {
        match next(&mut stream).await {
            Ok(StreamEvent::Text { delta, .. }) => text += &delta,
            Ok(StreamEvent::Done(prediction)) => return (text, Ok(*prediction)),
            Ok(_) => {}
            Err(error) => return (text, Err(error)),
        }
    }
}

#[tokio::test]
async fn events_of_each_kind_come_back_and_the_deadline_goes_in() {
    let large = json!({"id": 9_007_199_254_740_993_u64});
    let outputs = json!({"answer": "blue"}).as_object().cloned().unwrap();
    let events = [
        StreamEvent::Status {
            message: "größer".into(),
        },
        StreamEvent::Thinking {
            lm_call: 1,
            predictor: "self".into(),
            delta: "hm".into(),
        },
        text("re"),
        StreamEvent::Restart {
            lm_call: 1,
            predictor: "self".into(),
        },
        StreamEvent::ToolCall {
            id: 1,
            name: "search".into(),
            arguments: large.clone(),
        },
        StreamEvent::ToolResult {
            id: 1,
            name: "search".into(),
            result: Ok(large),
        },
        StreamEvent::Replace {
            lm_call: 2,
            predictor: "self".into(),
            field: "answer".into(),
            text: "blue".into(),
        },
    ];
    let mut answer = Prediction::new(outputs.clone());
    answer.usage.total_tokens = 11;
    let mock = MockDspy::new([Reply::stream(events.clone()).then(answer)]);
    let node = streaming(&mock).await;
    let client = node.client().with_reserve(secs(4)).streaming();

    let request = why().with_deadline(Deadline::within(SOON));
    let mut stream = client.oneshot(request).await.unwrap();
    for event in events {
        assert_eq!(next(&mut stream).await.unwrap(), event);
    }
    let StreamEvent::Done(done) = next(&mut stream).await.unwrap() else {
        panic!("another event");
    };
    assert_eq!((done.outputs, done.usage.total_tokens), (outputs, 11));
    assert!(stream.next().await.is_none());

    let left = mock.calls()[0].time_left.unwrap();
    assert!(left <= SOON - secs(4) && !left.is_zero(), "{left:?}");
    seen(&mock, |calls| !calls[0].in_flight).await;
}

#[tokio::test]
async fn a_program_without_a_streaming_service_streams_its_answer_as_one_event() {
    let mock = MockDspy::new([Reply::answer("blue"), Reply::fail(ErrorKind::LmUnavailable)]);
    let node = Node::of(&mock).await;
    let client = node.client().streaming();
    let mut stream = client.clone().oneshot(why()).await.unwrap();
    let only = next(&mut stream).await.unwrap();
    let StreamEvent::Done(answer) = only else {
        panic!("{only:?}");
    };
    assert_eq!(answer.outputs["answer"], "blue");
    assert!(stream.next().await.is_none());
    let error = client.oneshot(why()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LmUnavailable);
}

#[tokio::test]
async fn an_error_has_its_kind_and_details_before_the_first_event_and_after_it() {
    let wait = Some(secs(7));
    let busy = || LmError::new("LMRateLimitError", "slow down", Some(429), wait);
    let mock = MockDspy::new([
        Reply::error(busy()),
        Reply::text("answer", ["bl"]).then(Reply::error(busy())),
    ]);
    let node = streaming(&mock).await;
    let client = node.client().streaming();
    let before = client.clone().oneshot(why()).await.unwrap_err();
    let (text, after) = read(client.oneshot(why()).await.unwrap()).await;
    assert_eq!(text, "bl");
    for error in [before, after.unwrap_err()] {
        let Error::Lm(lm) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(lm.status(), Some(429));
        assert_eq!(error.retry_after(), wait);
    }
}

#[tokio::test]
async fn each_kind_of_error_after_the_first_event_is_the_kind_that_predict_gives() {
    for kind in [
        ErrorKind::Elapsed,
        ErrorKind::ShuttingDown,
        ErrorKind::Overloaded,
        ErrorKind::Program,
        ErrorKind::LmRejected,
        ErrorKind::BudgetExceeded,
        ErrorKind::Lost,
    ] {
        let failing = || Reply::text("answer", ["bl"]).then(Reply::fail(kind));
        let mock = MockDspy::new([failing(), failing()]);
        let node = streaming(&mock).await;
        let whole = node.client().oneshot(why()).await.unwrap_err();
        let stream = node.client().streaming().oneshot(why()).await.unwrap();
        let (text, end) = read(stream).await;
        assert_eq!((&*text, end.unwrap_err().kind()), ("bl", whole.kind()));
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_sent_is_an_error_after_its_events() {
    let answer = json!({"ids": [9_007_199_254_740_993_u64]});
    let mock = MockDspy::new([Reply::text("answer", ["bl"]).then(Reply::answer(answer))]);
    let node = streaming(&mock).await;
    let stream = node.client().streaming().oneshot(why()).await.unwrap();
    let (text, end) = read(stream).await;
    let error = end.unwrap_err();
    assert_eq!(text, "bl");
    assert!(error.to_string().contains("the output `ids[0]`"), "{error}");
}

#[tokio::test]
async fn dropping_the_stream_or_its_future_stops_the_program() {
    let mock = MockDspy::new([stalls(), Reply::hang()]);
    let node = streaming(&mock).await;
    let client = node.client().streaming();
    let mut stream = client.clone().oneshot(why()).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap(), text("bl"));
    assert_eq!(mock.in_flight(), 1);
    drop(stream);
    seen(&mock, |calls| !calls[0].in_flight).await;

    let response = tokio::spawn(client.oneshot(why()));
    seen(&mock, |calls| calls.len() == 2).await;
    response.abort();
    seen(&mock, |calls| !calls[1].in_flight).await;
    assert_eq!(mock.stopped(), [Cause::ClientGone; 2]);
}

#[tokio::test]
async fn a_cancelled_token_ends_the_stream_on_both_sides() {
    let mock = MockDspy::new([stalls()]);
    let node = streaming(&mock).await;
    let token = CancellationToken::new();
    let request = why().with_cancel(token.clone());
    let mut stream = node.client().streaming().oneshot(request).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap(), text("bl"));
    token.cancel();
    let error = next(&mut stream).await.unwrap_err();
    assert_eq!(error.cancel_cause(), Some(Cause::Caller));
    // The stream is still there; the call is not.
    seen(&mock, |calls| !calls[0].in_flight).await;
    assert_eq!(mock.stopped(), [Cause::ClientGone]);
}

#[tokio::test]
async fn the_deadline_is_that_of_the_whole_stream() {
    // The server ends it, and its status arrives.
    let mock = MockDspy::new([Reply::answer("blue"), stalls(), stalls()]);
    let node = streaming(&mock).await;
    let client = connected(&node).await;
    let late = client.clone().with_reserve(LONG - secs(3)).streaming();
    let request = why().with_deadline(Deadline::within(LONG));
    let (text, end) = read(late.oneshot(request).await.unwrap()).await;
    assert_eq!(
        (&*text, end.unwrap_err().kind()),
        ("bl", ErrorKind::Deadline)
    );
    assert_eq!(mock.stopped(), [Cause::Deadline]);

    // Both sides end it at the same time.
    let request = why().with_deadline(Deadline::within(secs(3)));
    let stream = client.streaming().oneshot(request).await.unwrap();
    let (text, end) = read(stream).await;
    assert_eq!(
        (&*text, end.unwrap_err().kind()),
        ("bl", ErrorKind::Deadline)
    );
    seen(&mock, |calls| !calls[2].in_flight).await;
}

#[tokio::test]
async fn the_limit_of_an_attempt_is_not_sent_and_the_total_of_the_stream_is() {
    let mock = MockDspy::new([stalls(), stalls(), Reply::hang()]);
    let node = streaming(&mock).await;
    let client = node.client().streaming();
    let attempt = TimeoutLayer::new(LONG).layer(client.clone());
    drop(attempt.oneshot(why()).await.unwrap());
    assert_eq!(mock.calls()[0].time_left, None);

    // On a connection that is there.
    let total = StreamTimeoutLayer::new().with_total(secs(3));
    let limited = total.layer(client.clone());
    let (_, end) = read(limited.oneshot(why()).await.unwrap()).await;
    let Error::Elapsed(elapsed) = end.unwrap_err() else {
        panic!("another error");
    };
    assert!(
        mock.calls()[1]
            .time_left
            .is_some_and(|left| left <= secs(3))
    );
    assert_eq!(elapsed.scope(), Scope::Total);

    // Kept here, all the same.
    let attempt = TimeoutLayer::new(Duration::from_millis(200));
    let error = attempt.layer(client).oneshot(why()).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Elapsed);
    seen(&mock, |calls| calls.iter().all(|call| !call.in_flight)).await;
}

#[tokio::test]
async fn a_stack_retries_before_the_first_event_only() {
    let mock = MockDspy::new([
        Reply::fail(ErrorKind::LmUnavailable),
        Reply::text("answer", ["bl"]).then(Reply::fail(ErrorKind::LmUnavailable)),
    ]);
    let node = streaming(&mock).await;
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::new(3))
        .service(node.client().streaming());
    let (text, end) = read(stack.oneshot(why()).await.unwrap()).await;
    assert_eq!(
        (&*text, end.unwrap_err().kind()),
        ("bl", ErrorKind::LmUnavailable)
    );
    assert_eq!(mock.calls().len(), 2);
}

#[tokio::test]
async fn a_draining_server_sends_its_streams_to_their_end() {
    let gate = Arc::new(Notify::new());
    let opens = gate.clone();
    let program = service_fn(move |_: PredictRequest| {
        let opens = opens.clone();
        let rest = stream::once(async move {
            opens.notified().await;
            Ok(text("ue"))
        });
        let outputs = json!({"answer": "blue"}).as_object().cloned().unwrap();
        let done = StreamEvent::Done(Box::new(Prediction::new(outputs)));
        let events = stream::iter([Ok(text("bl"))]).chain(rest);
        let events = events.chain(stream::iter([Ok(done)]));
        async { Ok::<_, Error>(PredictionStream::new(events)) }
    });
    let mock = MockDspy::from_fn(|_| Reply::hang());
    let programs = Programs::new().program_streaming("qa", mock, program);
    let mut node = Node::start(programs).await;
    let mut stream = node.client().streaming().oneshot(why()).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap(), text("bl"));
    node.stopping().await;
    gate.notify_one();
    let (text, end) = read(stream).await;
    assert_eq!(
        (&*text, &end.unwrap().outputs["answer"]),
        ("ue", &json!("blue"))
    );
    assert!(node.report().await.is_clean());
}

/// A program that has always more, to a reader that takes one piece.
#[tokio::test]
async fn a_slow_reader_holds_the_program_up() {
    const PIECE: usize = 16 * 1024;
    let sent = Arc::new(AtomicUsize::new(0));
    let pieces = sent.clone();
    let program = service_fn(move |_: PredictRequest| {
        let pieces = pieces.clone();
        let endless = stream::repeat_with(move || {
            pieces.fetch_add(1, Relaxed);
            Ok(text(&"a".repeat(PIECE)))
        });
        async { Ok::<_, Error>(PredictionStream::new(endless)) }
    });
    let mock = MockDspy::from_fn(|_| Reply::hang());
    let programs = Programs::new().program_streaming("qa", mock, program);
    let node = Node::start(programs).await;
    let mut stream = node.client().streaming().oneshot(why()).await.unwrap();
    assert!(next(&mut stream).await.is_ok());
    let stands_still = async {
        let mut before = 0;
        loop {
            sleep(Duration::from_millis(300)).await;
            let now = sent.load(Relaxed);
            if now == before {
                return now;
            }
            before = now;
        }
    };
    let stood = tokio::time::timeout(SOON, stands_still).await;
    let stood = stood.expect("the program was not held up");
    assert!(stood * PIECE < 64 * 1024 * 1024, "{stood} pieces");
    // It goes on when it is read.
    for _ in 0..2 * stood {
        assert!(next(&mut stream).await.is_ok());
    }
    assert!(sent.load(Relaxed) >= 2 * stood);
}

#[tokio::test]
async fn a_server_that_cannot_stream_and_a_program_that_is_not_there_are_refusals() {
    let old = service_fn(|_: http::Request<tonic::body::Body>| async {
        let status = tonic::Status::new(Code::Unimplemented, "");
        Ok::<_, tower::BoxError>(status.into_http::<tonic::body::Body>())
    });
    let client = ProgramClient::new("qa", old).streaming();
    let error = client.oneshot(why()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("no `PredictStream`"), "{error}");

    let node = streaming(&MockDspy::new([Reply::hang()])).await;
    let other = ProgramClient::new("other", node.channel()).streaming();
    let Err(Error::InvalidInput(refused)) = other.oneshot(why()).await else {
        panic!("it was answered");
    };
    assert_eq!(refused.field(), Some("program"));
}
