//! Programs that fail while their answer is read, or go on when they are to end.

use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_dspy::{
    Cause, Classify, ErrorKind, PredictRequest,
    testing::scripted_lm::{Gate, Reply},
};

use super::{
    ends::BEGUN,
    reading::{Reading, assert_cancelled, assert_partial, begun, is_well_after, lm_ended},
};
use crate::support::{LIMIT, ask, eventually, host, lm_server, load, open};

#[tokio::test]
async fn a_program_that_fails_in_mid_stream_has_the_text_as_its_partial_answer() {
    let (host, lm) = (host().await, lm_server().await);
    let gate = Gate::new();
    lm.script("ends-raises", Reply::echo().pause_after(BEGUN, &gate));
    let program = load(&host, "streams:Raises", "ends-raises").await;
    let request = || PredictRequest::new(json!({"key": "ends-raises", "question": "?"}));
    let mut stream = program.streaming().oneshot(request()).await.unwrap();
    let mut reading = Reading::default();
    reading.until_text(&mut stream).await;
    let text = reading.text(1, "answer").to_owned();
    open(&host, "ends-raises").await;
    let read = reading.rest(stream).await;
    assert_eq!(read.error().kind(), ErrorKind::Program, "{read:?}");
    let partial = read.partial()["answer"].as_str().map(str::to_owned);
    assert!(
        partial.is_some_and(|partial| partial.starts_with(&text)),
        "{read:?}"
    );
    lm_ended("ends-raises", 1).await;
    eventually("its permit", || program.in_flight() == 0).await;
}

#[tokio::test]
async fn a_program_that_swallows_its_end_asks_no_more_and_streams_no_more() {
    let (host, lm) = (host().await, lm_server().await);
    for (n, target) in ["streams:Swallows", "streams:SwallowsOnThread"]
        .into_iter()
        .enumerate()
    {
        let (model, gate) = (format!("ends-swallows-{n}"), Gate::new());
        lm.script(&model, Reply::echo().pause_after(BEGUN, &gate));
        let program = load(&host, target, &model).await;
        let token = CancellationToken::new();
        let mut begun = begun(&program, ask("?").with_cancel(token.clone())).await;
        token.cancel();
        // The reader looks as it ends, and not again before the program has answered.
        begun.take_ready();
        eventually("its answer", || program.in_flight() == 0).await;
        let read = begun.rest().await;
        assert_cancelled(read.error(), Cause::Caller);
        assert_eq!(read.statuses, [""; 0]);
        assert_partial(&read);
        assert_eq!(lm_ended(&model, 1).await.len(), 1);
        is_well_after(&program, &model, 1, ask("?")).await;
    }
}

#[tokio::test]
async fn a_dropped_stream_ends_its_lm_call_within_a_generous_limit() {
    let (host, lm) = (host().await, lm_server().await);
    let gate = Gate::new();
    lm.script("ends-in-time", Reply::echo().pause_after(BEGUN, &gate));
    let program = load(&host, "question -> answer", "ends-in-time").await;
    for _ in 0..10 {
        let begun = begun(&program, ask("?")).await;
        let since = Instant::now();
        drop(begun);
        eventually("its permit", || program.in_flight() == 0).await;
        assert!(since.elapsed() < LIMIT / 2);
    }
    lm_ended("ends-in-time", 10).await;
}
