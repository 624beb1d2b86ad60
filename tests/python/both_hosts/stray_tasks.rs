//! Tasks that a call left behind: cancelled, counted, and part of the call until they ended.

use serde_json::json;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_dspy::{
    PredictRequest,
    testing::scripted_lm::{Outcome, Reply},
};

use crate::support::{
    ask_as, eventually, eventually_seen, host_alone, lm_server, load, open, seen,
};

#[tokio::test]
async fn tasks_left_by_a_call_are_cancelled_and_counted_and_keep_its_permit() {
    let host = host_alone().await;
    let program = load(&host, "strays:forgets", "unused").await;
    let before = host.stats().strays;

    let request = PredictRequest::new(json!({"key": "forgets"}));
    let answer = program.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.outputs["answer"], "done");
    eventually_seen(&host, "forgets", &["stray cleaning", "stray cleaning"]).await;
    assert_eq!(program.in_flight(), 1);
    assert_eq!(host.stats().orphans, 1);

    open(&host, "forgets").await;
    eventually("its permit", || program.in_flight() == 0).await;
    assert_eq!(seen(&host, "forgets").await.len(), 4);
    assert_eq!(host.stats().strays, before + 2);
    eventually("no orphans", || host.stats().orphans == 0).await;
}

#[tokio::test]
async fn a_shielded_lm_call_is_stopped_with_its_call() {
    let (host, lm) = (host_alone().await, lm_server().await);
    lm.script("shielded", Reply::hang());
    let program = load(&host, "strays:shields", "shielded").await;
    let before = host.stats().strays;

    let token = CancellationToken::new();
    let request = ask_as("shields").with_cancel(token.clone());
    let call = tokio::spawn(program.clone().oneshot(request));
    lm.wait_for("shielded", |all| all.len() == 1).await.unwrap();
    token.cancel();
    call.await.unwrap().unwrap_err();
    lm.wait_for("shielded", |all| all[0].outcome == Outcome::ClientGone)
        .await
        .unwrap();
    eventually("its permit", || program.in_flight() == 0).await;
    // The LM call makes tasks of its own.
    assert!(host.stats().strays > before);
    assert_eq!(lm.requests("shielded").len(), 1);
}

#[tokio::test]
async fn a_task_started_by_a_stray_is_cancelled_too() {
    let host = host_alone().await;
    let program = load(&host, "strays:breeds", "unused").await;
    let before = host.stats().strays;

    let request = PredictRequest::new(json!({"key": "breeds"}));
    program.clone().oneshot(request).await.unwrap();
    eventually("its permit", || program.in_flight() == 0).await;
    // The offspring was cancelled at its birth: it never ran.
    assert_eq!(seen(&host, "breeds").await, ["bred"]);
    assert_eq!(host.stats().strays, before + 1);
    eventually("no orphans", || host.stats().orphans == 0).await;
}

#[tokio::test]
async fn tasks_awaited_by_their_call_are_not_strays() {
    let host = host_alone().await;
    let program = load(&host, "asks:abreast", "abreast").await;
    let before = host.stats().strays;

    let request = PredictRequest::new(json!({"question": "?", "times": 5}));
    let answer = program.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.outputs["answers"].as_array().unwrap().len(), 5);
    assert_eq!(answer.lm_calls.len(), 5);
    eventually("its permit", || program.in_flight() == 0).await;
    assert_eq!(host.stats().strays, before);
}
