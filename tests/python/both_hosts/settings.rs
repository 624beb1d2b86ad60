//! The `dspy.configure` of one program, which does not reach another.

use serde_json::{Value, json};
use tower::ServiceExt;
use tower_dspy::{Host, PredictRequest};

use crate::support::{ask, call, host, lm, lm_server, load};

async fn settings(host: &Host, target: &str) -> Value {
    let program = load(host, target, "unused").await;
    let answer = program.oneshot(PredictRequest::new(json!({}))).await;
    json!(answer.unwrap().outputs)
}

#[tokio::test]
async fn each_program_sees_its_own_settings_alone() {
    let host = host().await;
    let first = load(&host, "configures_a:settings", "unused").await;
    let b = settings(&host, "configures_b:settings").await;
    assert_eq!(b, json!({"flavour": "b", "adapter": "NoneType"}));
    // The first was loaded before the second configured anything.
    let a = first.oneshot(PredictRequest::new(json!({}))).await.unwrap();
    assert_eq!(
        json!(a.outputs),
        json!({"flavour": "a", "adapter": "JSONAdapter"})
    );
    let other = settings(&host, "configures_late:flavour").await;
    assert_eq!(other, json!({"flavour": null}));
}

#[tokio::test]
async fn two_programs_of_one_module_both_have_its_settings() {
    let host = host().await;
    for _ in 0..2 {
        let a = settings(&host, "configures_a:settings").await;
        assert_eq!(a["flavour"], "a");
    }
    load(&host, "configures_a:qa", "adapter")
        .await
        .oneshot(ask("?"))
        .await
        .unwrap();
    let body = &lm_server().await.requests("adapter")[0].body;
    assert!(
        body.to_string().contains("Respond with a JSON object"),
        "{body}"
    );
}

#[tokio::test]
async fn a_call_cannot_configure_dspy_for_the_others() {
    let host = host().await;
    let late = load(&host, "configures_late:late", "unused").await;
    let error = late
        .oneshot(PredictRequest::new(json!({})))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("RuntimeError"), "{error}");
    let other = settings(&host, "configures_late:flavour").await;
    assert_eq!(other, json!({"flavour": null}));
}

#[tokio::test]
async fn an_lm_configured_by_a_program_is_used_without_its_retries_and_cache() {
    let (host, server) = (host().await, lm_server().await);
    call(&host, "witness:use_lm", json!({"url": server.base_url()})).await;
    server.script(
        "configured",
        tower_dspy::testing::scripted_lm::Reply::status(500),
    );
    let qa = host.load("configures_lm:qa").await.unwrap();
    qa.oneshot(ask("?")).await.unwrap_err();
    assert_eq!(server.requests("configured").len(), 1);

    // An LM that the host gives is used in its place.
    let qa = host
        .load("configures_lm:qa")
        .lm(lm("given").await)
        .await
        .unwrap();
    qa.oneshot(ask("?")).await.unwrap();
    assert_eq!(server.requests("configured").len(), 1);
    assert_eq!(
        server.requests("given")[0].authorization(),
        Some("Bearer test-key")
    );
}
