//! The limit of tokens a minute around the LM calls of a program.

use std::time::Duration;

use tokio::time::Instant;
use tower::ServiceExt;
use tower_dspy::{
    Carrier, Classify, Deadline, ErrorKind, lm::TokenRateLayer, testing::scripted_lm::Reply,
};

use crate::support::{ask, host, lm, lm_server};

#[tokio::test]
async fn a_call_that_cannot_have_its_tokens_in_time_fails_at_once_with_the_wait() {
    let (host, server) = (host().await, lm_server().await);
    server.script("rated", Reply::echo());
    // Each call takes all of it.
    let rate = TokenRateLayer::new(1);
    let program = host.load("question -> answer");
    let program = program.lm(lm("rated").await.layer(rate)).await.unwrap();
    program.clone().oneshot(ask("?")).await.unwrap();

    let mut request = ask("?");
    let limit = Duration::from_secs(30);
    request.context_mut().limit(Deadline::within(limit));
    let began = Instant::now();
    let error = program.oneshot(request).await.unwrap_err();
    assert!(began.elapsed() < limit / 2);
    assert_eq!(error.kind(), ErrorKind::LmUnavailable, "{error}");
    let wait = error.retry_after().expect("it tells the wait");
    assert!(wait > limit && wait <= 2 * limit, "{wait:?}");
    assert_eq!(server.requests("rated").len(), 1);
}
