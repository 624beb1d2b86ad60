//! States of programs: loaded from JSON, from a pickle only by its name.

use std::path::Path;

use serde_json::json;
use tempfile::tempdir;
use tower::ServiceExt;
use tower_dspy::{LoadErrorKind, testing::scripted_lm::Reply};

use crate::support::{TestHost, ask, call, host, lm, lm_server};

async fn save(host: &TestHost, path: &Path, lm: Option<&str>) {
    let url = lm_server().await.base_url();
    call(host, "witness:use_lm", json!({"url": url})).await;
    call(host, "own_lm:save", json!({"path": path, "lm": lm})).await;
}

#[tokio::test]
async fn a_json_state_is_loaded() {
    let (host, folder) = (host().await, tempdir().unwrap());
    let state = folder.path().join("state.json");
    save(&host, &state, None).await;
    let load = host
        .load("own_lm:Plain")
        .lm(lm("state").await)
        .state(&state);
    load.await.unwrap().oneshot(ask("?")).await.unwrap();
    let body = lm_server().await.requests("state")[0].body.to_string();
    assert!(body.contains("a demo"), "{body}");
}

#[tokio::test]
async fn a_pickle_is_loaded_only_if_explicitly_trusted() {
    let (host, folder) = (host().await, tempdir().unwrap());
    let state = folder.path().join("state.pkl");
    save(&host, &state, None).await;
    let load = host.load("own_lm:Plain").lm(lm("pickle").await);
    let error = load.clone().state(&state).await.unwrap_err().to_string();
    assert!(error.contains("state_from_trusted_pickle"), "{error}");

    let program = load.state_from_trusted_pickle(&state).await.unwrap();
    program.oneshot(ask("?")).await.unwrap();
    let body = lm_server().await.requests("pickle")[0].body.to_string();
    assert!(body.contains("a demo"), "{body}");
}

#[tokio::test]
async fn an_lm_in_a_state_is_taken_over_like_any_other() {
    let (host, folder) = (host().await, tempdir().unwrap());
    let server = lm_server().await;
    let state = folder.path().join("state.json");
    save(&host, &state, Some("openai/from-state")).await;
    server.script("from-state", Reply::status(500));
    let load = host
        .load("own_lm:Plain")
        .lm(lm("not this one").await)
        .state(&state);
    load.await.unwrap().oneshot(ask("?")).await.unwrap_err();
    let requests = server.requests("from-state");
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].authorization(), Some("Bearer test-key"));

    save(&host, &state, Some("anthropic/from-state")).await;
    let load = host
        .load("own_lm:Plain")
        .lm(lm("not this one").await)
        .state(&state);
    let error = load.await.unwrap_err().to_string();
    assert!(
        error.contains("the predictor `qa`") && error.contains("anthropic"),
        "{error}"
    );
}

#[tokio::test]
async fn an_lm_address_in_a_state_is_refused_with_the_remedy() {
    let (host, folder) = (host().await, tempdir().unwrap());
    let server = lm_server().await;
    let state = folder.path().join("state.json");
    save(&host, &state, Some("openai/state-address")).await;
    let load = host.load("own_lm:Plain").state(&state);
    let error = load.await.unwrap_err().to_string();
    for part in [
        "`openai/state-address`",
        "`qa`",
        server.base_url(),
        "`.lm(..)`",
    ] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
    assert!(server.requests("state-address").is_empty());
}

#[tokio::test]
async fn a_state_that_does_not_fit_is_refused() {
    let (host, folder) = (host().await, tempdir().unwrap());
    let state = folder.path().join("state.json");
    let load = host.load("own_lm:Plain").lm(lm("unused").await);
    let error = load.clone().state(&state).await.unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::State, "{error}");
    std::fs::write(&state, "no JSON").unwrap();
    let error = load.state(&state).await.unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::State, "{error}");
    let error = host
        .load("asks:twice")
        .lm(lm("unused").await)
        .state(&state)
        .await;
    assert_eq!(
        error.unwrap_err().kind(),
        LoadErrorKind::State,
        "a function has none"
    );
}
