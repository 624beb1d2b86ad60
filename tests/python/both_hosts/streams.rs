//! Answers that are read as they are written.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::json;
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    DeadlineLayer, Error, PredictionStream, Scope, StreamEvent, TimeoutLayer,
    testing::scripted_lm::{Gate, Outcome, Reply, RequestRecord},
};

use crate::support::{ask, eventually, host, lm_server, question};

const ANSWER: &str = "[[ ## answer ## ]]\nfour [[it]] is\n\n[[ ## completed ## ]]";

fn all_gone(requests: &[RequestRecord]) -> bool {
    !requests.is_empty() && requests.iter().all(|r| r.outcome == Outcome::ClientGone)
}

/// The rest of the texts of `field`, and how the stream ends.
async fn rest(mut stream: PredictionStream, field: &str) -> (String, Result<StreamEvent, Error>) {
    let mut text = String::new();
    loop {
        match stream.next().await.expect("an end") {
            Ok(StreamEvent::Text {
                field: of, delta, ..
            }) if *of == *field => text += &delta,
            Ok(StreamEvent::Replace {
                field: of,
                text: whole,
                ..
            }) if *of == *field => text = whole,
            Ok(StreamEvent::Done(done)) => return (text, Ok(StreamEvent::Done(done))),
            Err(error) => return (text, Err(error)),
            Ok(_) => {}
        }
    }
}

#[tokio::test]
async fn the_deltas_add_up_to_the_field_and_the_answer_comes_last() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("stream-sum", Reply::content(ANSWER));
    let qa = question(&host, "stream-sum").await.streaming();
    let stream = qa.oneshot(ask("2 + 2?")).await.unwrap();
    let (text, end) = rest(stream, "answer").await;
    let Ok(StreamEvent::Done(prediction)) = end else {
        panic!("{end:?}")
    };
    assert_eq!(text, "four [[it]] is");
    assert_eq!(prediction.get("answer"), Some(&json!(text)));
    assert!(prediction.usage.total_tokens > 0, "{:?}", prediction.usage);
    let requests = lm.requests("stream-sum");
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].body["stream"], json!(true));
}

#[tokio::test]
async fn the_limit_of_an_attempt_is_that_of_the_first_content() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("stream-hangs", Reply::hang());
    let layers = ServiceBuilder::new().layer(TimeoutLayer::new(Duration::from_millis(200)));
    let qa = layers.service(question(&host, "stream-hangs").await.streaming());
    match qa.oneshot(ask("?")).await {
        Err(Error::Elapsed(elapsed)) => assert_eq!(elapsed.scope(), Scope::Attempt),
        other => panic!("{other:?}"),
    }
    lm.wait_for("stream-hangs", all_gone).await.unwrap();
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
        .layer(DeadlineLayer::new(Duration::from_secs(2)))
        .layer(TimeoutLayer::new(Duration::from_secs(1)));
    let mut stream = layers
        .service(program.streaming())
        .oneshot(ask("?"))
        .await
        .unwrap();
    lm.wait_for("stream-deadline", all_gone).await.unwrap();
    eventually("its permit", || program.in_flight() == 0).await;
    let mut text = String::new();
    let error = loop {
        match stream.next().await.expect("an end") {
            Ok(StreamEvent::Text { delta, .. }) => text += &delta,
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(
        "four [[it]] is".starts_with(&text) && !text.is_empty(),
        "{text}"
    );
    let partial = error
        .spent()
        .and_then(|spent| spent.partial.clone())
        .expect("a partial answer");
    assert_eq!(partial["answer"], json!(text));
    match error {
        Error::Elapsed(elapsed) => assert_eq!(elapsed.scope(), Scope::Deadline),
        other => panic!("{other:?}"),
    }
    assert!(stream.next().await.is_none());
}
