//! The wait for the end of work in Python: of a cancelled node, and before another attempt.

use std::time::Duration;

use futures_util::FutureExt;
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    Backoff, Cancel, CancelLayer, Cause, Classify, ErrorKind, FallbackLayer, Host, RetryLayer,
    TimeoutLayer,
    testing::scripted_lm::{Reply, RequestRecord},
};

use crate::support::{ask, ask_as, eventually_seen, host, lm_server, load, open, question, seen};

/// Long enough for an LM call to begin, on a busy machine as well.
const LIMIT: Duration = Duration::from_secs(5);

/// Makes a call from start to end: what was queued before has begun by then.
async fn one_more_call(host: &Host) {
    lm_server().await.script("one more", Reply::echo());
    let other = question(host, "one more").await;
    other.oneshot(ask("?")).await.expect("an answer");
}

fn one(requests: &[RequestRecord]) -> bool {
    requests.len() == 1
}

#[tokio::test]
async fn a_cancelled_node_settles_when_the_clean_up_code_has_run() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("settled", Reply::hang());
    let qa = load(&host, "cleanup:slow", "settled").await;
    let stack = ServiceBuilder::new()
        .layer(CancelLayer::new())
        .service(qa.clone());
    let session = Cancel::new();
    assert!(session.settled().now_or_never().is_some());

    let call = ask_as("settled").with_cancel(session.child());
    let call = tokio::spawn(stack.oneshot(call));
    lm.wait_for("settled", one).await.unwrap();
    session.cancel(Cause::ClientGone);
    let error = call.await.unwrap().expect_err("cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    eventually_seen(&host, "settled", &["cleaning"]).await;
    // The call is answered, and its work goes on.
    assert!(session.settled().now_or_never().is_none());

    open(&host, "settled").await;
    session.settled().await;
    assert_eq!(qa.in_flight(), 0);
    assert_eq!(seen(&host, "settled").await, ["cleaning", "cleaned"]);
}

#[tokio::test]
async fn a_retry_after_settled_does_not_join_an_attempt_that_cleans_up() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("rejoined", [Reply::hang(), Reply::answer("Paris")]);
    let qa = load(&host, "cleanup:slow", "rejoined").await;
    let retry = RetryLayer::new(1).with_backoff(Backoff::fixed(Duration::ZERO));
    let stack = ServiceBuilder::new()
        .layer(retry.after_settled())
        .layer(TimeoutLayer::new(LIMIT))
        .service(qa.clone());

    let call = tokio::spawn(stack.oneshot(ask_as("rejoined")));
    eventually_seen(&host, "rejoined", &["cleaning"]).await;
    one_more_call(&host).await;
    assert_eq!(lm.requests("rejoined").len(), 1);

    open(&host, "rejoined").await;
    call.await.unwrap().expect("the second attempt is answered");
    let both = ["cleaning", "cleaned", "cleaning", "cleaned"];
    assert_eq!(seen(&host, "rejoined").await, both);
}

#[tokio::test]
async fn a_fallback_after_settled_is_not_asked_while_the_program_cleans_up() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("thorough", Reply::hang());
    lm.script("quick", Reply::answer("Paris"));
    let thorough = load(&host, "cleanup:slow", "thorough").await;
    let quick = load(&host, "cleanup:ask", "quick").await;
    let stack = ServiceBuilder::new()
        .layer(FallbackLayer::service(quick).after_settled())
        .layer(TimeoutLayer::new(LIMIT))
        .service(thorough.clone());

    let call = tokio::spawn(stack.oneshot(ask_as("thorough")));
    eventually_seen(&host, "thorough", &["cleaning"]).await;
    one_more_call(&host).await;
    assert_eq!(lm.requests("quick").len(), 0);

    open(&host, "thorough").await;
    call.await.unwrap().expect("the fallback answers");
    let order = ["cleaning", "cleaned", "finally"];
    assert_eq!(seen(&host, "thorough").await, order);
}
