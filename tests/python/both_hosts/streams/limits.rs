//! Limits of time on streams, of their calls and of their LM calls.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::json;
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_dspy::{
    Backoff, Cancel, Cause, Classify, DeadlineLayer, Error, ErrorKind, LmOutcome, PredictionStream,
    RetryLayer, Scope, Session, StreamEvent, TimeoutLayer,
    lm::LmLimits,
    testing::scripted_lm::{Gate, Outcome, Reply, RequestRecord},
};

use super::reading::{Reading, is_well_after, lm_ended, read};
use crate::support::{TestHost, ask, eventually, host, lm, lm_server, question};

const ANSWER: &str = "[[ ## answer ## ]]\nfour [[it]] is\n\n[[ ## completed ## ]]";
const SECOND: Duration = Duration::from_secs(1);

fn all_gone(requests: &[RequestRecord]) -> bool {
    !requests.is_empty() && requests.iter().all(|r| r.outcome == Outcome::ClientGone)
}

#[tokio::test]
async fn the_limit_of_an_attempt_is_that_of_the_first_content() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("stream-hangs", Reply::hang());
    let layers = ServiceBuilder::new().layer(TimeoutLayer::new(5 * SECOND));
    let qa = layers.service(question(&host, "stream-hangs").await.streaming());
    match qa.oneshot(ask("?")).await {
        Err(Error::Elapsed(elapsed)) => assert_eq!(elapsed.scope(), Scope::Attempt),
        other => panic!("{other:?}"),
    }
    lm.wait_for("stream-hangs", all_gone).await.unwrap();
}

#[tokio::test]
async fn the_limit_of_an_attempt_does_not_end_a_stream_after_its_first_event() {
    let (host, lm) = (host().await, lm_server().await);
    let gate = Gate::new();
    lm.script(
        "stream-outlives",
        Reply::content(ANSWER).pause_after(6, &gate),
    );
    let limit = 8 * SECOND;
    let qa = question(&host, "stream-outlives").await;
    let qa = TimeoutLayer::new(limit).layer(qa.streaming());
    let mut stream = qa.oneshot(ask("?")).await.unwrap();
    let mut reading = Reading::default();
    reading.until_text(&mut stream).await;
    tokio::time::sleep(limit).await;
    gate.open();
    assert_eq!(reading.rest(stream).await.answer(), "four [[it]] is");
}

#[tokio::test]
async fn the_deadline_ends_a_stream_that_nobody_reads() {
    let (host, lm) = (host().await, lm_server().await);
    let gate = Gate::new();
    lm.script(
        "stream-deadline",
        Reply::content(ANSWER).pause_after(6, &gate),
    );
    let program = question(&host, "stream-deadline").await;
    let layers = ServiceBuilder::new()
        .layer(DeadlineLayer::new(10 * SECOND))
        .layer(TimeoutLayer::new(8 * SECOND));
    let stream = layers.service(program.streaming());
    let stream = stream.oneshot(ask("?")).await.unwrap();
    lm.wait_for("stream-deadline", all_gone).await.unwrap();
    eventually("its permit", || program.in_flight() == 0).await;
    let read = read(stream).await;
    let text = read.text(1, "answer");
    assert!("four [[it]] is".starts_with(text) && !text.is_empty());
    assert_eq!(read.partial(), json!({"answer": text}));
    match read.error() {
        Error::Elapsed(elapsed) => assert_eq!(elapsed.scope(), Scope::Deadline),
        other => panic!("{other:?}"),
    }
}

/// The end of a stream whose LM has `limits`, and its partial answer.
async fn limited(model: &str, limits: LmLimits, reply: Reply) -> Result<Reading, Error> {
    let (host, server) = (host().await, lm_server().await);
    server.script(model, reply);
    let load = host
        .load("question -> answer")
        .lm(lm(model).await.limits(limits));
    let program = load.await.unwrap();
    let ended = match program.streaming().oneshot(ask("?")).await {
        Ok(stream) => Ok(read(stream).await),
        Err(error) => Err(error),
    };
    is_well_after(&program, model, 1, ask("?")).await;
    ended
}

fn assert_lm_limit(error: &Error, says: &str) {
    assert_eq!(error.kind(), ErrorKind::LmUnavailable, "{error:?}");
    let spent = error.spent().expect("an LM call");
    assert_eq!(spent.lm_calls.len(), 1);
    assert_eq!(spent.lm_calls[0].outcome, LmOutcome::Elapsed);
    assert!(error.to_string().contains(says), "{error}");
}

#[tokio::test]
async fn pings_are_no_first_content_of_an_lm() {
    let limits = LmLimits::new().with_first_content(5 * SECOND);
    let pings = Reply::content(ANSWER).pings_after(0, 600, SECOND / 10);
    let error = limited("stream-pings", limits, pings).await.unwrap_err();
    assert_lm_limit(&error, "content");
}

#[tokio::test]
async fn pings_feed_no_idle_limit_of_an_lm_that_has_begun() {
    let limits = LmLimits::new().with_idle(5 * SECOND);
    let pings = Reply::content(ANSWER).pings_after(6, 600, SECOND / 10);
    let read = limited("stream-idle-pings", limits, pings).await.unwrap();
    assert_lm_limit(read.error(), "5s");
    let text = read.partial()["answer"].as_str().map(str::to_owned);
    assert_eq!(text.as_deref(), Some("four"), "{read:?}");
}

#[tokio::test]
async fn the_total_of_an_lm_call_ends_a_drip() {
    let limits = LmLimits::new().with_total(6 * SECOND);
    let drip = Reply::answer("word ".repeat(600)).drip(SECOND / 10);
    let read = limited("stream-drips", limits, drip).await.unwrap();
    assert_lm_limit(read.error(), "6s");
    assert!(
        read.partial()["answer"]
            .as_str()
            .is_some_and(|text| text.starts_with("word word"))
    );
}

/// A stream of a stack that tries again, around a model with these replies, and the host, which the
/// test holds as long as the stream.
async fn retried(model: &str, replies: Vec<Reply>) -> (TestHost, PredictionStream) {
    let (host, server) = (host().await, lm_server().await);
    server.script(model, replies);
    let program = question(&host, model).await;
    let retry = RetryLayer::new(2).with_backoff(Backoff::fixed(Duration::ZERO));
    let stream = retry.layer(program.streaming()).oneshot(ask("?")).await;
    (host, stream.unwrap())
}

#[tokio::test]
async fn a_failure_before_the_first_event_is_tried_again() {
    let replies = vec![
        Reply::status(503),
        Reply::content(ANSWER).error_after(0, 500),
        Reply::content(ANSWER),
    ];
    let (_host, stream) = retried("stream-retried", replies).await;
    let read = read(stream).await;
    assert_eq!(read.answer(), "four [[it]] is");
    assert_eq!(read.text(1, "answer"), "four [[it]] is");
    assert!(read.restarts.is_empty());
    assert_eq!(lm_ended("stream-retried", 0).await.len(), 3);
}

#[tokio::test]
async fn a_failure_after_the_first_event_is_not_tried_again() {
    let replies = vec![
        Reply::content(ANSWER).error_after(6, 503),
        Reply::content(ANSWER),
    ];
    let (_host, stream) = retried("stream-not-retried", replies).await;
    let read = read(stream).await;
    assert_eq!(read.error().kind(), ErrorKind::LmUnavailable, "{read:?}");
    assert_eq!(read.partial(), json!({"answer": "four"}));
    assert_eq!(lm_ended("stream-not-retried", 0).await.len(), 1);
}

#[tokio::test]
async fn the_first_event_is_not_lost_between_the_response_and_the_stream() {
    let host = host().await;
    let program = question(&host, "stream-first").await;
    for _ in 0..20 {
        let mut stream = program.streaming().oneshot(ask("?")).await.unwrap();
        // Read late: more has come by now.
        tokio::task::yield_now().await;
        let first = stream.next().await;
        match first {
            Some(Ok(StreamEvent::Text { delta, .. })) => assert!(delta.starts_with("You")),
            other => panic!("{other:?}"),
        }
        stream.prediction().await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_was_there_in_time_is_read_after_the_deadline() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("stream-in-time", Reply::content(ANSWER));
    let program = question(&host, "stream-in-time").await;
    let layers = ServiceBuilder::new().layer(DeadlineLayer::new(8 * SECOND));
    let stream = layers.service(program.streaming()).oneshot(ask("?")).await;
    let mut stream = stream.unwrap();
    stream.next().await.expect("an event").expect("a text");
    eventually("its permit", || program.in_flight() == 0).await;
    tokio::time::sleep(9 * SECOND).await;
    assert!(stream.prediction().await.is_ok());
}

#[tokio::test]
async fn the_end_of_a_session_ends_a_stream_that_nobody_reads() {
    let (host, lm) = (host().await, lm_server().await);
    let gate = Gate::new();
    lm.script(
        "stream-session",
        Reply::content(ANSWER).pause_after(6, &gate),
    );
    let (session, program) = (Session::new(), question(&host, "stream-session").await);
    let request = ask("?").with_cancel(Cancel::new());
    let stream = session.wrap(program.streaming()).oneshot(request).await;
    let stream = stream.unwrap();
    session.cancel(Cause::Caller);
    lm.wait_for("stream-session", all_gone).await.unwrap();
    let error = stream.prediction().await.expect_err("it was cancelled");
    assert_eq!(error.cancel_cause(), Some(Cause::Caller));
    eventually("its permit", || program.in_flight() == 0).await;
}
