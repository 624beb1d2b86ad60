//! The limits, the fallback and the routes around a mock of the program: no Python, and time is paused.

use std::time::Duration;

use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use qa_service::{
    config::Config,
    qa::{Answer, Qa},
    routes,
};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt;
use tower_dspy::{
    Cause, ErrorKind,
    testing::mock::{MockDspy, Reply},
};

/// The routes with the limits of `config.toml`, as in production.
fn app(mock: &MockDspy) -> axum::Router {
    let config = Config::load().unwrap();
    let stack = config.stack.layer().unwrap();
    routes::router(Qa::new(mock.clone(), mock.streaming(), stack))
}

async fn post(mock: &MockDspy, path: &str, accept: &str, body: Value) -> (u16, String) {
    let request = Request::post(path)
        .header("content-type", "application/json")
        .header("accept", accept)
        .body(Body::from(body.to_string()))
        .unwrap();
    let response = app(mock).oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn ask(mock: &MockDspy) -> (u16, Answer) {
    let body = json!({"question": "Why does it blink?", "passages": ["The battery is low."]});
    let (status, body) = post(mock, "/qa", "*/*", body).await;
    (status, serde_json::from_str(&body).unwrap())
}

fn low_battery() -> Reply {
    Reply::answer(json!({"answer": "The battery is low.", "confidence": 0.9}))
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_is_stopped_and_another_made() {
    let mock = MockDspy::new([Reply::hang(), low_battery()]);
    let start = Instant::now();
    let (status, answer) = ask(&mock).await;
    assert_eq!((status, answer.confidence), (200, 0.9));
    let attempt_timeout = Duration::from_secs(8);
    assert!(start.elapsed() >= attempt_timeout);
    assert_eq!(mock.calls()[0].time_left, Some(attempt_timeout));
    assert_eq!(mock.stopped(), [Cause::Elapsed]);
}

#[tokio::test(start_paused = true)]
async fn within_the_deadline_the_fallback_answers_and_nothing_goes_on() {
    let mock = MockDspy::from_fn(|_| Reply::hang());
    let start = Instant::now();
    let (status, answer) = ask(&mock).await;
    assert_eq!((status, &*answer.answer), (200, "Please ask again later."));
    assert!(start.elapsed() <= Duration::from_secs(20));
    assert_eq!(mock.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn inputs_of_another_type_do_not_reach_the_program() {
    let mock = MockDspy::new([Reply::hang(); 0]);
    let body = json!({"question": "Why?", "passages": [], "audience": "boss"});
    let (status, problem) = post(&mock, "/qa", "*/*", body).await;
    assert_eq!(status, 422);
    assert!(
        problem.contains("expected `customer` or `engineer`"),
        "{problem}"
    );
    assert!(mock.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_program_gets_typed_inputs_with_their_defaults() {
    let mock = MockDspy::new([low_battery()]);
    ask(&mock).await;
    assert_eq!(mock.calls()[0].inputs["audience"], "customer");
}

#[tokio::test(start_paused = true)]
async fn a_stream_tells_its_reader_of_an_error() {
    let mock = MockDspy::new([
        Reply::text("answer", ["The battery"]).then(Reply::fail(ErrorKind::LmUnavailable))
    ]);
    let body = json!({"question": "Why?", "passages": []});
    let (status, events) = post(&mock, "/qa/stream", "text/event-stream", body).await;
    assert_eq!(status, 200);
    assert!(
        events.contains("event: text") && events.contains("event: error"),
        "{events}"
    );
}
