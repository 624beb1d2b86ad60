//! Real programs behind a real socket: invalid inputs, the OpenAPI document, and the shutdown.

use std::time::Duration;

use axum::{Router, routing::get};
use serde_json::{Value, json};
use tokio::{net::TcpListener, process::Command, task::JoinHandle};
use tower_dspy::{
    Health, Host, InboundLayer,
    inbound::axum::{Programs, liveness, predict},
    server::{ServeReport, serve},
    testing::scripted_lm::{Outcome, Reply},
};

use crate::support::{HOUR, call, host, lm_server, load, own_process, start};

type Served = JoinHandle<std::io::Result<ServeReport>>;

/// Serves `app` until the process is told to end, with `drain` for what is in flight.
async fn serving(app: Router, host: &Host, drain: Duration) -> (String, Served) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let until = host.shutdown(drain);
    let served = tokio::spawn(async move { serve(listener, app, until).await });
    (url, served)
}

#[tokio::test]
async fn invalid_inputs_are_answered_by_field_without_an_lm_call() {
    let host = host().await;
    let qa = load(&host, "question, k: int -> answer", "served-wrong").await;
    let app = Router::new().route("/qa", predict(qa));
    let (url, served) = serving(app, &host, HOUR).await;
    let client = reqwest::Client::new();
    for (inputs, field) in [
        (json!({"question": "?"}), "k"),
        (json!({"question": "?", "k": "two"}), "k"),
        (json!({"question": 7, "k": 2}), "question"),
        (json!({"question": "?", "k": 2, "lm": "mine"}), "lm"),
        (json!({"question": "?", "k": 2, "more": 1}), "more"),
    ] {
        let sent = client.post(format!("{url}/qa")).json(&inputs).send();
        let response = sent.await.unwrap();
        assert_eq!(response.status().as_u16(), 422, "{inputs}");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["field"], field, "{problem}");
    }
    assert!(lm_server().await.requests("served-wrong").is_empty());
    served.abort();
}

#[tokio::test]
async fn answers_and_refusals_fit_the_document_of_the_program() {
    let host = host().await;
    let several = "question, k: int -> answer, score: float, sure: bool, tags: list[str]";
    let fields = [("answer", "blue"), ("score", "0.5"), ("sure", "True")];
    let fields = fields.into_iter().chain([("tags", "[\"sky\"]")]);
    lm_server()
        .await
        .script("served-document", Reply::fields(fields));
    let qa = load(&host, several, "served-document").await;
    let schema = qa.schema().clone();
    let app = Programs::new("t", "1").program("/qa", &schema, qa);
    let (url, served) = serving(app.into_router(), &host, HOUR).await;
    let client = reqwest::Client::new();
    let document = client.get(format!("{url}/openapi.json")).send().await;
    let document: Value = document.unwrap().json().await.unwrap();

    let misfits = async |pointer: &str, instance: &Value| {
        let arguments = json!({"document": document, "pointer": pointer, "instance": instance});
        call(&host, "conforms:misfits", arguments).await
    };
    let of_body = "/paths/~1qa/post/requestBody/content/application~1json/schema";
    let of_status = |status: u16, kind: &str| {
        format!("/paths/~1qa/post/responses/{status}/content/application~1{kind}/schema")
    };
    let good = json!({"question": "?", "k": 2});
    for (inputs, status, kind) in [
        (good, 200, "json"),
        (json!({"question": "?", "k": 2.5}), 422, "problem+json"),
    ] {
        let fit = misfits(of_body, &inputs).await;
        assert_eq!(fit == json!([]), status == 200, "{fit}");
        let sent = client.post(format!("{url}/qa")).json(&inputs).send();
        let response = sent.await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        let body: Value = response.json().await.unwrap();
        let fit = misfits(&of_status(status, kind), &body).await;
        assert_eq!(fit, json!([]), "{body}");
        // The check would see it.
        let fit = misfits(&of_status(status, kind), &json!({"outputs": 1})).await;
        assert_ne!(fit, json!([]));
        if status == 200 {
            let mut wrong = body;
            wrong["outputs"]["score"] = json!("high");
            let fit = misfits(&of_status(200, kind), &wrong).await;
            assert_eq!(fit.as_array().map(Vec::len), Some(1), "{fit}");
        }
    }
    served.abort();
}

#[tokio::test]
async fn sigterm_ends_the_server_its_calls_and_then_the_host() {
    let name = "serving::sigterm_ends_the_server_its_calls_and_then_the_host";
    if own_process(name).await.is_some() {
        return;
    }
    let (host, lm) = (start().await, lm_server().await);
    lm.script("served-end", Reply::hang());
    let qa = load(&host, "question -> answer", "served-end").await;
    let app = Router::new()
        .route("/qa", predict(qa.clone()))
        .route("/livez", get(liveness))
        .route("/readyz", get(host.readiness()))
        .layer(InboundLayer::new());
    let (url, served) = serving(app, &host, Duration::from_millis(50)).await;
    let client = reqwest::Client::new();
    let ready = client.get(format!("{url}/readyz")).send().await.unwrap();
    assert_eq!(ready.status().as_u16(), 200);
    let asked = client
        .post(format!("{url}/qa"))
        .json(&json!({"question": "?"}));
    let asked = tokio::spawn(asked.send());
    lm.wait_for("served-end", |all| all.len() == 1)
        .await
        .unwrap();

    let pid = std::process::id().to_string();
    let kill = Command::new("kill").args(["-TERM", &pid]).status().await;
    assert!(kill.unwrap().success());
    let answer = asked.await.unwrap().unwrap();
    assert_eq!(answer.status().as_u16(), 503);
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["kind"], "shutting_down");
    lm.wait_for("served-end", |all| all[0].outcome == Outcome::ClientGone)
        .await
        .unwrap();
    let report = served.await.unwrap().unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!(
        (report.requests.completed, report.requests.cancelled),
        (1, 1)
    );
    assert_eq!(qa.in_flight(), 0);
    assert_eq!(host.health(), Health::Lost);
    assert!(client.get(format!("{url}/livez")).send().await.is_err());
}
