//! A program behind a route: POST JSON in, prediction out.

use std::time::Duration;

use axum::{Router, body::Body};
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_dspy::{
    CallContext, Deadline, DeadlineLayer, Error, ErrorKind, InboundLayer, InvalidInput, LmCall,
    LmError, LmOutcome, PredictRequest, Prediction, Shutdown, Usd,
    inbound::axum::{predict, readiness},
    testing::error_of,
};

use super::support::{header, json as read, secs};

/// Answers by what it is asked.
fn app() -> Router {
    let program = service_fn(|request: PredictRequest| async move {
        let (inputs, context) = request.into_parts();
        let answer = match inputs["question"].as_str() {
            Some("left") => format!("{:?}", context.deadline.map(Deadline::remaining)),
            Some("never") => std::future::pending().await,
            Some("busy") => {
                let wait = Some(secs(7));
                return Err(LmError::new("LMRateLimitError", "", Some(429), wait).into());
            }
            Some("raise") => return Err(error_of(ErrorKind::Program).unwrap()),
            Some(question) => format!("{question}!"),
            None => {
                let missing = "`question` is missing";
                return Err(InvalidInput::new("qa", Some("question"), missing, "a string").into());
            }
        };
        let outputs = [("answer".to_owned(), json!(answer))];
        let mut prediction = Prediction::new(outputs.into_iter().collect());
        if inputs["question"] == "why" {
            prediction.usage.prompt_tokens = 9;
            prediction.usage.completion_tokens = 2;
            prediction.usage.total_tokens = 11;
            prediction.cost.usd = Usd::new(0.25);
            prediction.cost.unknown_calls = 1;
            prediction.lm_calls = vec![LmCall::new("openai", "small", LmOutcome::Answered)];
            prediction.lm_calls_not_kept = 2;
            prediction.lm_calls_bypassed = 1;
            prediction.elapsed = Duration::from_millis(1500);
            prediction.stale_age = Some(secs(60));
        }
        Ok::<_, Error>(prediction)
    });
    let program = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(10)))
        .service(program);
    Router::new()
        .route("/qa", predict(program))
        .layer(InboundLayer::new().max(secs(30)))
}

async fn post(body: impl Into<Body>) -> axum::response::Response {
    let request = Request::post("/qa")
        .header("content-type", "application/json")
        .header("x-request-timeout", "4")
        .body(body.into())
        .unwrap();
    app().oneshot(request).await.unwrap()
}

async fn ask(inputs: Value) -> axum::response::Response {
    post(inputs.to_string()).await
}

#[tokio::test(start_paused = true)]
async fn outputs_come_back_and_the_deadline_goes_in() {
    let response = ask(json!({"question": "why"})).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        read(response).await,
        json!({
            "outputs": {"answer": "why!"},
            "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
            "cost": {"usd": 0.25, "estimated_usd": 0.0, "unknown_calls": 1},
            "lm_calls": 3,
            "lm_calls_bypassed": 1,
            "elapsed_ms": 1500,
            "stale_age_ms": 60000,
        })
    );
    let response = ask(json!({"question": "left"})).await;
    let prediction = read(response).await;
    assert_eq!(prediction["outputs"], json!({"answer": "Some(4s)"}));
    assert_eq!(prediction["lm_calls"], 0);
    assert_eq!(prediction.get("stale_age_ms"), None);
}

#[tokio::test(start_paused = true)]
async fn failures_are_answered_as_problem_json() {
    let start = Instant::now();
    let response = ask(json!({"question": "never"})).await;
    assert_eq!(start.elapsed(), secs(4));
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);

    let response = ask(json!({"question": "busy"})).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(response.headers(), "retry-after"), Some("7"));

    let response = ask(json!({"question": "raise"})).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);

    let response = ask(json!({})).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(read(response).await["field"], "question");
}

#[tokio::test]
async fn a_body_that_is_not_json_is_answered_as_problem_json() {
    let response = post("{").await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let content = header(response.headers(), "content-type");
    assert_eq!(content, Some("application/problem+json"));
    let problem = read(response).await;
    assert_eq!(problem["status"], 400);
    assert_eq!(problem["title"], "Bad Request");

    let large = "x".repeat(3 << 20);
    let response = ask(json!({"question": large})).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(read(response).await["status"], 413);

    let plain = Request::post("/qa").body(Body::from("{}")).unwrap();
    let response = app().oneshot(plain).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(read(response).await["kind"], "invalid_input");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_shuts_down_is_not_ready() {
    let shutdown = Shutdown::new();
    let ready = shutdown.clone();
    let app: Router = Router::new().route("/readyz", readiness(move || ready.is_ready()));
    let probe = || Request::get("/readyz").body(Body::empty()).unwrap();
    let response = app.clone().oneshot(probe()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    shutdown.run(secs(1), secs(1)).await;
    let response = app.oneshot(probe()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_malformed_body_is_not_called_slow_after_the_deadline() {
    let service = service_fn(|_: PredictRequest| async {
        Ok::<_, Error>(Prediction::new(serde_json::Map::new()))
    });
    let app: Router = Router::new().route("/qa", predict(service));
    let large = "x".repeat(3 << 20);
    for (body, status) in [
        ("{", StatusCode::BAD_REQUEST),
        (&large, StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let mut context = CallContext::new();
        context.deadline = Some(Deadline::within(Duration::ZERO));
        let request = Request::post("/qa")
            .header("content-type", "application/json")
            .extension(context)
            .body(Body::from(body.to_owned()));
        let response = app.clone().oneshot(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), status);
    }
}
