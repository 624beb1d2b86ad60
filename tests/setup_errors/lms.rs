//! Mistakes with LMs and their keys.

use std::time::Duration;

use tempfile::tempdir;
use tokio::net::TcpSocket;
use tower::ServiceExt;
use tower_dspy::{
    Lm, PredictRequest,
    doctor::{CheckOutcome, Doctor},
    testing::scripted_lm::Reply,
};

use crate::{
    page::{found, says},
    support::{diagnosis_of, host, lm, lm_server, own_process, venv},
};

const MODEL: &str = "openai/gpt-4o-mini";

#[tokio::test]
async fn lms_that_cannot_be_used() {
    let host = host().await;
    for (key, lm) in [
        ("no-key", Lm::new(MODEL).key_env("NO_SUCH_KEY")),
        ("bad-key", Lm::new(MODEL).key("sk-with a-space")),
        (
            "key-for-a-variable",
            Lm::new(MODEL).key_env("sk-proj-0123456789abcdef"),
        ),
        ("quoted-key", Lm::new(MODEL).key("'sk-proj'")),
        ("unknown-provider", Lm::new("opnai/gpt-4o-mini").key("k")),
        (
            "bad-base-url",
            Lm::new(MODEL).key("k").base_url("my-host:8000/v1"),
        ),
        (
            "base-url-of-a-request",
            Lm::new(MODEL)
                .key("k")
                .base_url("http://127.0.0.1:9/v1/chat/completions"),
        ),
        (
            "key-in-base-url",
            Lm::new(MODEL)
                .key("k")
                .base_url("http://me:k@127.0.0.1:9/v1"),
        ),
        (
            "query-in-base-url",
            Lm::new(MODEL)
                .key("k")
                .base_url("http://127.0.0.1:9/v1?key=k"),
        ),
        (
            "option-of-its-own",
            Lm::new(MODEL).key("k").option("api_key", "k"),
        ),
    ] {
        let error = host.load("question -> answer").lm(lm.clone()).await;
        says(key, error.expect_err(key));
        let diagnosis = diagnosis_of(lm).await;
        found(key, &diagnosis);
        // Its program is not wrong as well: one thing is to be mended.
        let wrong = |check: &&tower_dspy::doctor::Check| check.outcome() == CheckOutcome::Wrong;
        assert_eq!(
            diagnosis.checks().iter().filter(wrong).count(),
            1,
            "{diagnosis}"
        );
    }
}

/// They are accepted until the provider sees them. The addresses are on this machine: no provider
/// is asked.
#[tokio::test]
async fn keys_that_look_like_a_mistake() {
    let name = "lms::keys_that_look_like_a_mistake";
    let venv = venv().await;
    let folder = tempdir().unwrap();
    let (_bound, url) = nowhere();
    let path = venv.to_string_lossy();
    if own_process(
        name,
        &[("VIRTUAL_ENV", &path), ("OPENAI_BASE_URL", &url)],
        folder.path(),
    )
    .await
    {
        return;
    }
    for (key, value) in [
        ("placeholder-key", "your-api-key"),
        ("unexpanded-key", "$OPENAI_API_KEY"),
        ("key-of-another-provider", "sk-ant-secret"),
    ] {
        let diagnosis = diagnosis_of(Lm::new(MODEL).key(value)).await;
        found(key, &diagnosis);
        assert!(!diagnosis.to_string().contains(value), "{diagnosis}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_none() {
    let name = "lms::a_proxy_that_is_none";
    let venv = venv().await;
    let folder = tempdir().unwrap();
    let path = venv.to_string_lossy();
    if own_process(
        name,
        &[("VIRTUAL_ENV", &path), ("HTTPS_PROXY", "gopher://x")],
        folder.path(),
    )
    .await
    {
        return;
    }
    let lm = Lm::new(MODEL).key("k").base_url("http://127.0.0.1:9/v1");
    found("bad-proxy", &diagnosis_of(lm.clone()).await);
    // Also where no host starts.
    let doctor = Doctor::new().program("question -> answer", lm);
    found("bad-proxy", &doctor.run().await);
}

#[tokio::test]
async fn a_proxy_before_an_lm_on_this_machine() {
    let name = "lms::a_proxy_before_an_lm_on_this_machine";
    let venv = venv().await;
    let folder = tempdir().unwrap();
    let (_bound, url) = nowhere();
    let proxy = url.trim_end_matches("/v1");
    let path = venv.to_string_lossy();
    let set = [
        ("VIRTUAL_ENV", &*path),
        ("HTTP_PROXY", proxy),
        ("NO_PROXY", ""),
    ];
    if own_process(name, &set, folder.path()).await {
        return;
    }
    let lm = Lm::new(MODEL).key("k").base_url("http://127.0.0.1:9/v1");
    found("proxy-before-local-lm", &diagnosis_of(lm).await);
}

/// Where nobody listens, for as long as the socket is held.
fn nowhere() -> (TcpSocket, String) {
    let bound = TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/v1", bound.local_addr().unwrap());
    (bound, url)
}

#[tokio::test]
async fn an_lm_that_is_not_there() {
    let (_bound, url) = nowhere();
    let lm = Lm::new(MODEL).key("k").base_url(url);
    let diagnosis = diagnosis_of(lm.clone()).await;
    found("nobody-listens", &diagnosis);
    // It may be there later.
    assert!(diagnosis.is_well(), "{diagnosis}");
    let doctor = Doctor::new()
        .host(host().await)
        .program("question -> answer", lm);
    let diagnosis = doctor.ask_lms(Duration::from_secs(60)).run().await;
    assert!(!diagnosis.is_well(), "{diagnosis}");
}

#[tokio::test]
async fn lms_that_refuse_to_answer() {
    let host = host().await;
    for (key, status) in [("key-not-accepted", 401), ("no-such-model", 404)] {
        lm_server().await.script(key, Reply::status(status));
        let lm = lm(key).await;
        let qa = host
            .load("question -> answer")
            .lm(lm.clone())
            .await
            .unwrap();
        let request = PredictRequest::new(serde_json::json!({"question": "?"}));
        says(key, qa.oneshot(request).await.unwrap_err());
        let doctor = Doctor::new()
            .host(host.clone())
            .program("question -> answer", lm);
        found(key, &doctor.ask_lms(Duration::from_secs(60)).run().await);
    }
}

#[tokio::test]
async fn an_lm_is_asked_only_when_the_doctor_is_told_to() {
    let lm = lm("asked").await;
    let diagnosis = diagnosis_of(lm.clone()).await;
    assert!(diagnosis.is_well(), "{diagnosis}");
    let server = lm_server().await;
    assert_eq!(server.requests("asked").len(), 0);
    // Two programs with one LM: it is asked once.
    let doctor = Doctor::new().host(host().await);
    let doctor = doctor
        .program("question -> answer", lm.clone())
        .program("qa:Program", lm);
    let diagnosis = doctor.ask_lms(Duration::from_secs(60)).run().await;
    assert!(diagnosis.is_well(), "{diagnosis}");
    assert_eq!(server.requests("asked").len(), 1);
    let last = diagnosis.checks().last().expect("a check");
    assert_eq!(
        (last.name(), last.outcome()),
        ("LM answer", CheckOutcome::Ok)
    );
}
