//! LMs that a program makes while it runs: their calls go past the host, and that is said.

use serde_json::json;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_dspy::{
    Error, PredictRequest,
    testing::{
        ScriptedLm,
        scripted_lm::{Gate, Outcome, Reply, RequestRecord},
    },
};

use crate::{
    captured::Captured,
    support::{TestHost, call, eventually, eventually_seen, host, lm_server, load, own_process},
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
async fn they_are_counted_and_said_once_for_each_program() {
    let name = "bypassed::they_are_counted_and_said_once_for_each_program";
    if own_process(name).await.is_some() {
        return;
    }
    let captured = Captured::from("warn");
    let (host, server) = prepared().await;
    let program = load(&host, "spends:bypasses", "by-host").await;
    let request = PredictRequest::new(json!({"question": "?", "model": "by-own"}));
    for n in 1..=2 {
        let answer = program.clone().oneshot(request.clone()).await.unwrap();
        let calls: Vec<_> = answer.lm_calls.iter().map(|call| &*call.model).collect();
        assert_eq!((calls, answer.lm_calls_bypassed), (vec!["by-host"], 1));
        assert_eq!(
            Some(answer.usage.total_tokens),
            answer.lm_calls[0].total_tokens
        );
        assert_eq!(program.lm_calls_bypassed(), n);
        assert_eq!(host.stats().lm.bypassed, n);
    }
    assert_eq!(server.requests("by-own").len(), 2);
    assert_eq!(
        server.requests("by-own")[0].authorization(),
        Some("Bearer own")
    );

    let said = captured.text();
    // A busy machine may have the loop held up besides: the first LM of a process reads DSPy's list
    // of models.
    let of_it = said
        .lines()
        .filter(|line| !line.contains("blocks the loop"));
    let said: Vec<_> = of_it.collect();
    assert_eq!(said.len(), 1, "{said:?}");
    for part in [
        "WARN",
        "spends:bypasses",
        "LM(openai/by-own)",
        "past the host",
        "`.lm(..)`",
    ] {
        assert!(said[0].contains(part), "{part} is not in {said:?}");
    }
}

#[tokio::test]
async fn a_cancel_closes_their_connection_and_the_step_after_it_is_refused() {
    // It never ends, and other tests wait until nothing runs.
    let name = "bypassed::a_cancel_closes_their_connection_and_the_step_after_it_is_refused";
    if own_process(name).await.is_some() {
        return;
    }
    let (host, server) = prepared().await;
    server.script("by-async", Reply::hang());
    let program = load(&host, "spends:bypasses_whatever_happens", "unused").await;
    let inputs = json!({"question": "?", "model": "by-async", "times": 1_000_000});
    let token = CancellationToken::new();
    let request = PredictRequest::new(inputs).with_cancel(token.clone());
    let call = tokio::spawn(program.clone().oneshot(request));
    server
        .wait_for("by-async", |all| !all.is_empty())
        .await
        .unwrap();
    token.cancel();
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Cancelled(_)), "{error:?}");
    assert_eq!(error.spent().map(|spent| spent.lm_calls_bypassed), Some(1));

    server.wait_for("by-async", all_gone).await.unwrap();
    // Raised once, by the gate, and from then on it is parked.
    eventually_seen(&host, "by-async", &["CancelledError", "CancelledError"]).await;
    let other = load(&host, "question -> answer", "by-other").await;
    for _ in 0..10 {
        let question = crate::support::ask("?");
        other.clone().oneshot(question).await.unwrap();
    }
    assert_eq!(server.requests("by-async").len(), 1);
    assert_eq!(program.in_flight(), 1);
}

#[tokio::test]
async fn on_a_thread_the_call_under_way_goes_on_and_no_further_one_begins() {
    let (host, server) = prepared().await;
    let gate = Gate::new();
    server.script("by-thread", Reply::answer("late").held_by(&gate));
    let program = load(&host, "spends:bypasses_on_a_thread", "unused").await;
    let token = CancellationToken::new();
    let inputs = json!({"question": "?", "model": "by-thread"});
    let request = PredictRequest::new(inputs).with_cancel(token.clone());
    let call = tokio::spawn(program.clone().oneshot(request));
    server
        .wait_for("by-thread", |all| all.len() == 1)
        .await
        .unwrap();
    token.cancel();
    call.await.unwrap().unwrap_err();
    assert_eq!(program.in_flight(), 1);

    gate.open();
    eventually_seen(&host, "by-thread", &["Cancelled"]).await;
    eventually("the thread's end", || program.in_flight() == 0).await;
    assert_eq!(server.requests("by-thread").len(), 1);
}
