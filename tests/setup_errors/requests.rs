//! Mistakes with requests, which only they show.

use std::time::Duration;

use serde_json::json;
use tower::{Service, ServiceExt};
use tower_dspy::{
    Deadline, Host, PredictRequest,
    deadline::RequestTimeout,
    doctor::{CheckOutcome, Doctor},
    testing::scripted_lm::Reply,
};

use crate::{
    page::says,
    support::{host, lm, lm_server, venv},
};

fn question() -> PredictRequest {
    PredictRequest::new(json!({"question": "?"}))
}

#[tokio::test]
async fn requests_that_do_not_fit_their_program() {
    let qa = host()
        .await
        .load("question -> answer")
        .lm(lm("unused").await);
    let qa = qa.await.unwrap();
    let empty = PredictRequest::new(json!({}));
    says(
        "missing-input",
        qa.clone().oneshot(empty).await.unwrap_err(),
    );
    let misspelt = PredictRequest::new(json!({"questio": "?"}));
    says(
        "misspelt-input",
        qa.clone().oneshot(misspelt).await.unwrap_err(),
    );
    let smart = question().with_lm("smart");
    says("unknown-lm", qa.oneshot(smart).await.unwrap_err());
}

#[tokio::test]
async fn a_limit_that_is_too_short() {
    lm_server().await.script("hangs", Reply::hang());
    let qa = host()
        .await
        .load("question -> answer")
        .lm(lm("hangs").await);
    let qa = qa.await.unwrap();
    let request = question().with_deadline(Deadline::within(Duration::from_millis(50)));
    says("limit-too-short", qa.oneshot(request).await.unwrap_err());
}

#[tokio::test]
async fn more_calls_than_may_be_in_flight() {
    lm_server().await.script("busy", Reply::hang());
    let qa = host().await.load("question -> answer").lm(lm("busy").await);
    let mut qa = qa.max_in_flight(1).max_waiting(0).await.unwrap();
    let first = qa.ready().await.unwrap().call(question());
    says(
        "overloaded",
        qa.clone().oneshot(question()).await.unwrap_err(),
    );
    drop(first);
}

#[tokio::test]
async fn a_host_that_is_stopped() {
    let host = Host::workers(1).venv(venv().await).start().await.unwrap();
    let qa = host
        .load("question -> answer")
        .lm(lm("unused").await)
        .await
        .unwrap();
    host.stop(Duration::ZERO).await;
    says("stopped-host", qa.oneshot(question()).await.unwrap_err());
    let diagnosis = Doctor::new().host(host).run().await;
    let mut checks = diagnosis.checks().iter();
    assert!(checks.any(|check| (check.name(), check.outcome()) == ("host", CheckOutcome::Wrong)));
}

#[test]
fn a_timeout_that_is_none() {
    let error = "soon".parse::<RequestTimeout>().unwrap_err();
    says("bad-timeout-header", error);
}
