//! Partial answers, readable in Rust as soon as the program leaves them.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    Deadline, Error, Host, PredictRequest, TimeoutLayer, testing::scripted_lm::Reply,
};

use crate::support::{
    HOUR, LIMIT, ask, ask_as, eventually_seen, host, host_alone, lm_server, load, open, seen,
};

fn partial(error: &Error) -> Option<&Map<String, Value>> {
    error.spent()?.partial.as_ref()
}

/// The outcome of `target` when it is cancelled as it waits for its LM.
async fn cancelled(host: &Host, target: &str, model: &str, request: PredictRequest) -> Error {
    let server = lm_server().await;
    server.script(model, Reply::hang());
    let program = load(host, target, model).await;
    let token = CancellationToken::new();
    let call = tokio::spawn(program.oneshot(request.with_cancel(token.clone())));
    server.wait_for(model, |all| all.len() == 1).await.unwrap();
    token.cancel();
    call.await.unwrap().unwrap_err()
}

#[tokio::test]
async fn the_last_partial_answer_replaces_the_one_before() {
    let host = host().await;
    let error = cancelled(&host, "spends:Drafts", "drafts", ask("?")).await;
    assert!(matches!(error, Error::Cancelled(_)));
    assert_eq!(json!(partial(&error)), json!({"answer": "a draft"}));
}

#[tokio::test]
async fn an_answer_without_a_partial_answer_has_none() {
    let host = host().await;
    let program = load(&host, "spends:Drafts", "drafts-answered").await;
    let answer = program.oneshot(ask("?")).await.unwrap();
    assert_eq!(json!(answer.outputs), json!({"answer": "You said: ?"}));
}

#[tokio::test]
async fn a_partial_answer_is_readable_while_the_program_holds_the_gil() {
    let host = host_alone().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let program = load(&host, "spends:drafts_and_blocks", "unused").await;
    let request = PredictRequest::new(json!({"port": port}));
    // Long enough for it to leave its draft and to block, on a busy machine as well.
    let limit = TimeoutLayer::new(Duration::from_secs(5));
    let stack = ServiceBuilder::new().layer(limit).service(program.clone());
    let begun = timeout(LIMIT, listener.accept());
    let (error, begun) = tokio::join!(stack.oneshot(request), begun);
    let (peer, _) = begun.expect("a call that blocks").unwrap();
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Elapsed(_)));
    let draft = json!({"answer": "before the block", "sources": [1, {"page": null}]});
    assert_eq!(json!(partial(&error)), draft);
    // It blocks still.
    assert_eq!(program.in_flight(), 1);
    drop(peer);
}

#[tokio::test]
async fn a_partial_answer_can_be_left_by_sync_code_on_dspys_threads() {
    let (host, target) = (host().await, "spends:drafts_in_parallel");
    let request = || ask("Q").with_deadline(Deadline::within(HOUR));
    let error = cancelled(&host, target, "drafts-parallel", request()).await;
    assert_eq!(json!(partial(&error)), json!({"answer": "Q, in parallel"}));

    let program = load(&host, target, "drafts-limit").await;
    program.oneshot(request()).await.unwrap();
    eventually_seen(&host, "sync", &["limit: True"]).await;
}

#[tokio::test]
async fn a_partial_answer_after_the_end_is_dropped() {
    // Held to the end: the call goes on, and a test that wants the host alone waits for that.
    let (host, key) = (host().await, "drafts-late");
    let error = cancelled(&host, "spends:drafts_too_late", key, ask_as(key)).await;
    assert_eq!(partial(&error), None);
    open(&host, key).await;
    eventually_seen(&host, key, &["kept: False"]).await;
    assert_eq!(seen(&host, key).await.len(), 1);
}

#[tokio::test]
async fn a_field_outside_the_signature_is_refused_by_name() {
    let host = host().await;
    for (target, said) in [
        ("Misnames", ["['reply']", "['answer']"]),
        ("Mistypes", ["`answer` does not fit", "type str"]),
    ] {
        let program = load(&host, &format!("spends:{target}"), "drafts-misfit").await;
        let error = program.oneshot(ask("?")).await.unwrap_err();
        let Error::Program(error) = error else {
            panic!("{error:?}")
        };
        assert_eq!(error.python_type(), "ValueError");
        for said in said {
            assert!(error.message().contains(said), "{error}");
        }
    }
}
