//! LMs that a program makes while it runs. Their requests go through the host like all others.

use serde_json::json;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_dspy::{
    Error, LmOutcome, PredictRequest,
    testing::scripted_lm::{Outcome, Reply, RequestRecord, ScriptedLm},
};

use crate::support::{
    TestHost, call, eventually, eventually_seen, eventually_seen_first, host, lm_server, load,
    own_process,
};

async fn prepared() -> (TestHost, &'static ScriptedLm) {
    let (host, server) = (host().await, lm_server().await);
    call(&host, "witness:use_lm", json!({"url": server.base_url()})).await;
    (host, server)
}

fn all_gone(requests: &[RequestRecord]) -> bool {
    !requests.is_empty() && requests.iter().all(|r| r.outcome == Outcome::ClientGone)
}

#[tokio::test]
async fn lm_calls_are_counted_with_their_model_and_send_their_own_key() {
    let (host, server) = prepared().await;
    let program = load(&host, "spends:makes_its_lm", "mi-host").await;
    let request = PredictRequest::new(json!({"question": "?", "model": "mi-own"}));
    let answer = program.oneshot(request).await.unwrap();
    let calls = answer.lm_calls.iter();
    let calls: Vec<_> = calls.map(|call| (&*call.provider, &*call.model)).collect();
    assert_eq!(calls, [("openai", "mi-own"), ("openai", "mi-host")]);
    assert_eq!(answer.lm_calls_bypassed, 0);
    let tokens = answer
        .lm_calls
        .iter()
        .map(|call| call.total_tokens.unwrap());
    assert_eq!(answer.usage.total_tokens, tokens.sum::<u64>());
    let key = |model: &str| server.requests(model)[0].authorization().map(str::to_owned);
    assert_eq!(key("mi-own").as_deref(), Some("Bearer own"));
    assert_eq!(key("mi-host").as_deref(), Some("Bearer test-key"));
}

#[tokio::test]
async fn lms_made_inside_have_neither_retries_nor_a_cache_of_dspy() {
    let (host, server) = prepared().await;
    let program = load(&host, "spends:makes_its_lm", "mi-once-host").await;
    let request = PredictRequest::new(json!({"question": "?", "model": "mi-once"}));
    for _ in 0..2 {
        program.clone().oneshot(request.clone()).await.unwrap();
    }
    assert_eq!(server.requests("mi-once").len(), 2);
    server.script("mi-once", Reply::status(503));
    let error = program.oneshot(request).await.unwrap_err();
    assert!(matches!(error, Error::Lm(_)), "{error:?}");
    assert_eq!(server.requests("mi-once").len(), 3);
}

#[tokio::test]
async fn a_cancel_closes_the_connection_and_the_next_step_is_refused() {
    // It never ends, and other tests wait until nothing runs.
    let name =
        "both_hosts::lms_in_forward::a_cancel_closes_the_connection_and_the_next_step_is_refused";
    if own_process(name).await.is_some() {
        return;
    }
    let (host, server) = prepared().await;
    server.script("mi-async", Reply::hang());
    let program = load(&host, "spends:makes_its_lm_whatever_happens", "unused").await;
    let inputs = json!({"question": "?", "model": "mi-async", "times": 1_000_000});
    let token = CancellationToken::new();
    let request = PredictRequest::new(inputs).with_cancel(token.clone());
    let call = tokio::spawn(program.clone().oneshot(request));
    server
        .wait_for("mi-async", |all| !all.is_empty())
        .await
        .unwrap();
    token.cancel();
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Cancelled(_)), "{error:?}");
    let spent = error.spent().map(|spent| spent.lm_calls.clone());
    let outcomes = spent.unwrap_or_default();
    let outcomes: Vec<_> = outcomes.iter().map(|call| call.outcome).collect();
    assert_eq!(outcomes, [LmOutcome::Cancelled]);

    server.wait_for("mi-async", all_gone).await.unwrap();
    // Raised at each step, by the gate, after waits that grow.
    let refusals = ["CancelledError", "CancelledError"];
    let seen = eventually_seen_first(&host, "mi-async", &refusals).await;
    assert!(seen.iter().all(|seen| seen == refusals[0]), "{seen:?}");
    let other = load(&host, "question -> answer", "mi-other").await;
    for _ in 0..10 {
        let question = crate::support::ask("?");
        other.clone().oneshot(question).await.unwrap();
    }
    assert_eq!(server.requests("mi-async").len(), 1);
    assert_eq!(program.in_flight(), 1);
}

#[tokio::test]
async fn a_cancel_closes_the_connection_of_an_lm_call_on_a_thread_too() {
    let (host, server) = prepared().await;
    server.script("mi-thread", Reply::hang());
    let program = load(&host, "spends:makes_its_lm_on_a_thread", "unused").await;
    let token = CancellationToken::new();
    let inputs = json!({"question": "?", "model": "mi-thread"});
    let request = PredictRequest::new(inputs).with_cancel(token.clone());
    let call = tokio::spawn(program.clone().oneshot(request));
    server
        .wait_for("mi-thread", |all| all.len() == 1)
        .await
        .unwrap();
    token.cancel();
    call.await.unwrap().unwrap_err();
    server.wait_for("mi-thread", all_gone).await.unwrap();
    eventually_seen(&host, "mi-thread", &["Cancelled"]).await;
    eventually("the thread's end", || program.in_flight() == 0).await;
    assert_eq!(server.requests("mi-thread").len(), 1);
}
