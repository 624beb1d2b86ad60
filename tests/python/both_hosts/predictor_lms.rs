//! LMs that a program's predictors bring along: taken over, or refused by name.

use serde_json::json;
use tower::ServiceExt;
use tower_dspy::{
    Host,
    testing::scripted_lm::{Reply, ScriptedLm},
};

use crate::support::{TestHost, ask, call, host, lm, lm_server};

/// The host, after telling the programs where the LM is.
async fn prepared() -> (TestHost, &'static ScriptedLm) {
    let (host, server) = (host().await, lm_server().await);
    call(&host, "witness:use_lm", json!({"url": server.base_url()})).await;
    (host, server)
}

async fn refusal(host: &Host, target: &str) -> String {
    let load = host.load(target).lm(lm("host").await);
    load.await.unwrap_err().to_string()
}

#[tokio::test]
async fn an_lm_of_a_predictor_keeps_its_model_and_options_and_gets_the_hosts_key() {
    let (host, server) = prepared().await;
    let load = host.load("own_lm:Own").lm(lm("own-two").await);
    let program = load.await.unwrap();
    program.clone().oneshot(ask("?")).await.unwrap();
    // The same question again: there is no cache.
    program.clone().oneshot(ask("?")).await.unwrap();
    let (first, second) = (server.requests("own-one"), server.requests("own-two"));
    assert_eq!((first.len(), second.len()), (2, 2));
    assert_eq!(first[0].body["temperature"], 0.25);
    for request in first.iter().chain(&second) {
        assert_eq!(request.authorization(), Some("Bearer test-key"));
    }

    server.script("own-one", Reply::status(500));
    program.oneshot(ask("?")).await.unwrap_err();
    assert_eq!(server.requests("own-one").len(), 3);
}

#[tokio::test]
async fn an_lm_of_another_provider_is_refused_by_name() {
    let (host, _) = prepared().await;
    let error = refusal(&host, "own_lm:elsewhere").await;
    assert!(error.contains("the predictor `first`"), "{error}");
    assert!(error.contains("anthropic/claude"), "{error}");
}

#[tokio::test]
async fn an_lm_of_another_class_than_dspy_lm_is_refused_by_name() {
    let (host, _) = prepared().await;
    let error = refusal(&host, "own_lm:foreign").await;
    assert!(
        error.contains("the predictor `first`") && error.contains("(str)"),
        "{error}"
    );
}

#[tokio::test]
async fn an_lm_of_a_litellm_provider_is_taken_over_too() {
    let (host, server) = prepared().await;
    let program = host.load("own_lm:by_litellm").await.unwrap();
    let answer = program.oneshot(ask("?")).await.unwrap();
    let calls = answer.lm_calls.iter();
    let calls: Vec<_> = calls.map(|call| (&*call.provider, &*call.model)).collect();
    assert_eq!(calls, [("mistral", "own-litellm")]);
    let request = &server.requests("own-litellm")[0];
    assert_eq!(request.authorization(), Some("Bearer own-key"));
}

#[tokio::test]
async fn each_load_of_an_instance_has_the_key_of_its_own_lm() {
    let (host, server) = prepared().await;
    let load = async |key: &str| {
        let lm = lm("own-instance").await.key(key);
        host.load("own_lm:instance").lm(lm).await.unwrap()
    };
    drop(load("gone").await);
    let (first, second) = (load("first").await, load("second").await);
    for (program, key) in [(&first, "first"), (&second, "second"), (&first, "first")] {
        program.clone().oneshot(ask(key)).await.unwrap();
        let request = server.requests("own-instance").pop().unwrap();
        assert_eq!(request.authorization(), Some(&*format!("Bearer {key}")));
    }
}
