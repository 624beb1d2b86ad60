//! A program behind a route with structs: the inputs in, the outputs alone out.

use axum::{Router, body::Body, response::Response};
use http::{Request, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    DeadlineLayer, InboundLayer,
    inbound::axum::predict_typed,
    testing::mock::{MockDspy, Reply},
};

use super::support::{header, json as read, secs};

#[derive(Deserialize, Serialize)]
struct Question {
    question: String,
    #[serde(default = "three")]
    k: u32,
}

const fn three() -> u32 {
    3
}

#[derive(Deserialize, Serialize)]
struct Answer {
    answer: String,
}

fn app(mock: &MockDspy) -> Router {
    let program = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(10)))
        .service(mock.clone());
    Router::new()
        .route(
            "/qa",
            predict_typed::<Question, Answer, _, _>(program.clone()),
        )
        .route("/any", predict_typed::<Value, Value, _, _>(program))
        .layer(InboundLayer::new().max(secs(30)))
}

async fn post(mock: &MockDspy, path: &str, body: impl Into<Body>) -> Response {
    let request = Request::post(path)
        .header("content-type", "application/json")
        .header("x-request-timeout", "4")
        .body(body.into())
        .unwrap();
    app(mock).oneshot(request).await.unwrap()
}

#[tokio::test]
async fn inputs_come_in_and_the_outputs_alone_go_out() {
    let mock = MockDspy::new([
        Reply::answer(json!({"answer": "Rayleigh", "draft": "blue"})),
        Reply::answer(json!({"answer": "Rayleigh", "draft": "blue"})),
    ]);
    let asked = json!({"question": "why", "more": 1}).to_string();
    let response = post(&mock, "/qa", asked.clone()).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(header(response.headers(), "x-call-id").is_some());
    assert_eq!(read(response).await, json!({"answer": "Rayleigh"}));

    let response = post(&mock, "/any", asked).await;
    let whole = json!({"answer": "Rayleigh", "draft": "blue"});
    assert_eq!(read(response).await, whole);

    let requests = mock.calls();
    assert_eq!(requests[0].inputs, json!({"question": "why", "k": 3}));
    assert_eq!(requests[1].inputs, json!({"question": "why", "more": 1}));
}

#[tokio::test]
async fn a_body_of_another_type_is_refused_as_problem_json() {
    let mock = MockDspy::new(Vec::<Reply>::new());
    for (body, status, said) in [
        (
            "{\"question\": 3}",
            StatusCode::UNPROCESSABLE_ENTITY,
            "question",
        ),
        ("{}", StatusCode::UNPROCESSABLE_ENTITY, "question"),
        ("{", StatusCode::BAD_REQUEST, "JSON"),
    ] {
        let response = post(&mock, "/qa", body).await;
        assert_eq!(response.status(), status);
        let content = header(response.headers(), "content-type");
        assert_eq!(content, Some("application/problem+json"));
        assert!(header(response.headers(), "x-call-id").is_some());
        let problem = read(response).await;
        assert_eq!(problem["kind"], "invalid_input");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(said), "{detail}");
    }
    assert_eq!(mock.calls().len(), 0);
}

#[tokio::test]
async fn outputs_of_another_type_are_the_programs_failure() {
    let mock = MockDspy::new([Reply::answer(json!({"answer": 3}))]);
    let response = post(&mock, "/qa", json!({"question": "why"}).to_string()).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(read(response).await["kind"], "program");
}

#[tokio::test(start_paused = true)]
async fn the_call_ends_at_the_deadline_of_the_client() {
    let mock = MockDspy::new([Reply::answer(json!({"answer": "late"})).after(secs(60))]);
    let start = Instant::now();
    let response = post(&mock, "/qa", json!({"question": "why"}).to_string()).await;
    assert_eq!(start.elapsed(), secs(4));
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
}
