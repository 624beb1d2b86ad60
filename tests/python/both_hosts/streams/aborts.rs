//! Requests that ask the provider to abort the LM call of an answer that is given up.

use serde_json::json;
use tower::ServiceExt;
use tower_dspy::{
    lm::{LmRequest, PLACEHOLDER, abort::UnfinishedLmCall},
    testing::scripted_lm::{Gate, Reply},
};

use super::{
    ends::BEGUN,
    reading::{begun, lm_ended},
};
use crate::support::{ask, eventually, host_alone, lm, lm_server};

/// A request to the LM's own server, which records it as one of the model `aborts`: the id of the
/// answer that is aborted is its prompt.
fn abort(call: &UnfinishedLmCall) -> Option<LmRequest> {
    let id = call.response_id.as_deref().unwrap_or("none");
    let body = json!({"model": "aborts", "messages": [{"role": "user", "content": id}]});
    let request = http::Request::post(call.request.uri())
        .header("authorization", format!("Bearer {PLACEHOLDER}"));
    request.body(body.to_string().into()).ok()
}

#[tokio::test]
async fn an_answer_that_is_given_up_is_aborted_by_its_id() {
    let (host, server) = (host_alone().await, lm_server().await);
    let gate = Gate::new();
    server.script("given-up", Reply::echo().pause_after(BEGUN, &gate));
    let program = host.load("question -> answer");
    let program = program.lm(lm("given-up").await.abort(abort)).await.unwrap();
    let before = host.stats().lm;

    drop(begun(&program, ask("?")).await);
    lm_ended("given-up", 1).await;
    // No id is known of an answer that is not streamed.
    let call = tokio::spawn(program.clone().oneshot(ask("?")));
    let asked = server.wait_for("given-up", |all| all.len() == 2).await;
    asked.unwrap();
    call.abort();
    lm_ended("given-up", 2).await;

    let aborts = server.wait_for("aborts", |all| all.len() == 2).await;
    let mut ids: Vec<_> = aborts
        .unwrap()
        .iter()
        .map(|abort| {
            assert_eq!(abort.authorization(), Some("Bearer test-key"));
            abort.body["messages"][0]["content"].to_string()
        })
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, ["\"none\"", "\"scripted-given-up-0\""]);
    eventually("both are counted", || {
        host.stats().lm.aborts == before.aborts + 2
    })
    .await;

    // An answer that is read is not aborted.
    gate.open();
    let read = begun(&program, ask("?")).await.rest().await;
    assert!(read.prediction().get("answer").is_some());
    assert_eq!(server.requests("aborts").len(), 2);
    assert_eq!(host.stats().lm.aborts_failed, before.aborts_failed);
}
