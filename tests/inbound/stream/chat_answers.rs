//! Whole chat completions.

use axum::Router;
use http::StatusCode;
use serde_json::{Value, json};
use tower::service_fn;
use tower_dspy::{
    PredictRequest,
    inbound::axum::stream::{ChatPrograms, chat_completions},
};

use super::{
    super::support::{header, json as read_json},
    ask, busy, done, fields, prediction, script,
};

fn app(outputs: Option<Value>) -> Router {
    let whole = service_fn(move |_: PredictRequest| {
        let outputs = outputs.clone();
        async move { outputs.map(prediction).ok_or_else(busy) }
    });
    let streaming = script(|| vec![done(json!({"answer": "streamed"}))]);
    let programs = ChatPrograms::new().program("qa", fields(), whole, streaming);
    Router::new().merge(chat_completions(programs))
}

const PATH: &str = "/v1/chat/completions";
const ASK: &str = "{\"model\":\"qa\",\"messages\":[{\"role\":\"user\",\"content\":\"why\"}]}";

#[tokio::test]
async fn a_whole_completion_is_that_of_the_whole_service() {
    let outputs = json!({"answer": "blue", "reasoning": "it is"});
    let response = ask(&app(Some(outputs)), PATH, ASK).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut completion = read_json(response).await;
    let id = completion["id"].take();
    assert!(id.as_str().unwrap().starts_with("chatcmpl-"));
    assert!(completion["created"].take().as_u64() > Some(1_500_000_000));
    assert_eq!(
        completion,
        json!({
            "id": null, "object": "chat.completion", "created": null, "model": "qa",
            "choices": [{
                "index": 0,
                "message": {
                    "role": "assistant", "content": "blue", "refusal": null,
                    "reasoning_content": "it is",
                },
                "logprobs": null,
                "finish_reason": "stop",
            }],
            "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
        })
    );
}

#[tokio::test]
async fn a_failure_has_its_status_in_openais_form() {
    let response = ask(&app(None), PATH, ASK).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(response.headers(), "retry-after"), Some("7"));
    assert_eq!(read_json(response).await["error"]["code"], "lm_unavailable");

    let response = ask(&app(Some(json!({}))), PATH, ASK).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(header(response.headers(), "x-should-retry"), Some("false"));
}
