//! What clients of OpenAI's chat API send.

use axum::{Router, body::Body};
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_dspy::inbound::axum::stream::{ChatPrograms, chat_completions};

use super::{super::support::json as read_json, app, ask, done, fields, script, seen, whole};

async fn inputs(mut body: Value) -> Result<Value, (StatusCode, Value)> {
    if let Some(body) = body.as_object_mut() {
        body.entry("model").or_insert_with(|| json!("qa"));
        body.insert("stream".into(), json!(true));
    }
    let (service, mut seen) = seen();
    let response = ask(&app(&service), "/v1/chat/completions", body.to_string()).await;
    let status = response.status();
    match seen.try_recv() {
        Ok((inputs, _)) => Ok(inputs),
        Err(_) => Err((status, read_json(response).await)),
    }
}

#[tokio::test]
async fn the_last_message_and_the_turns_before_it_become_inputs() {
    let body = json!({
        "temperature": 0.3, "max_tokens": 5, "stop": ["x"], "seed": 1, "tools": [], "n": 1,
        "response_format": {"type": "text"}, "stream_options": null, "user": "u",
        "messages": [
            {"role": "system", "content": "be nice"},
            {"role": "developer", "content": "be nicer"},
            {"role": "user", "content": "one", "name": "ann"},
            {"role": "assistant", "content": [{"type": "text", "text": "1"}], "tool_calls": []},
            {"role": "user", "content": [
                {"type": "text", "text": "tw"}, {"type": "text", "text": "o"},
            ]},
        ],
    });
    assert_eq!(
        inputs(body).await.unwrap(),
        json!({"question": "two", "history": {"messages": [{"question": "one", "answer": "1"}]}})
    );
}

#[tokio::test]
async fn what_a_program_cannot_obey_is_refused_in_openais_form() {
    let ask = json!([{"role": "user", "content": "why"}]);
    let of = |message: Value| json!({"messages": [message]});
    let image = json!([{"type": "image_url", "image_url": {"url": "data:,"}}]);
    for (body, param) in [
        (
            json!({"messages": ask, "tools": [{"type": "function"}]}),
            json!("tools"),
        ),
        (
            json!({"messages": ask, "functions": [{}]}),
            json!("functions"),
        ),
        (json!({"messages": ask, "n": 2}), json!("n")),
        (
            json!({"messages": ask, "response_format": {"type": "json_object"}}),
            json!("response_format"),
        ),
        (json!({"messages": []}), json!("messages")),
        (
            of(json!({"role": "assistant", "content": "x"})),
            json!("messages"),
        ),
        (
            of(json!({"role": "tool", "content": "x"})),
            json!("messages"),
        ),
        (
            of(json!({"role": "wizard", "content": "x"})),
            json!("messages"),
        ),
        (
            of(json!({"role": "user", "content": null})),
            json!("messages"),
        ),
        (
            of(json!({"role": "user", "content": image})),
            json!("messages"),
        ),
        (json!({}), Value::Null),
        (json!([]), Value::Null),
        (json!("why"), Value::Null),
        (json!({"messages": 1}), Value::Null),
        (json!({"messages": ask, "model": 1}), Value::Null),
        (json!({"messages": ask, "n": -1}), Value::Null),
        (of(json!({"role": "user", "content": 1})), Value::Null),
    ] {
        let (status, error) = inputs(body.clone()).await.expect_err("it is wrong");
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        let error = &error["error"];
        assert_eq!(error["type"], "invalid_request_error", "{body}");
        assert_eq!(error["param"], param, "{body}");
        assert_eq!(error["code"], "invalid_input");
        assert!(error["message"].is_string());
    }
    let (status, error) = inputs(json!({"model": "gpt", "messages": ask}))
        .await
        .unwrap_err();
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(
        error,
        json!({"error": {
            "message": "the model `gpt` does not exist",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
            "call_id": 17,
        }})
    );
}

#[tokio::test]
async fn programs_are_listed_as_models() {
    let app = app(&script(|| vec![done(json!({"answer": "x"}))]));
    let get = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        (response.status(), read_json(response).await)
    };
    let (status, models) = get("/v1/models").await;
    assert_eq!(
        (status, &models["object"]),
        (StatusCode::OK, &json!("list"))
    );
    let model = &models["data"][0];
    assert_eq!(model["id"], "qa");
    assert_eq!(model["object"], "model");
    assert_eq!(model["owned_by"], "tower-dspy");
    assert!(model["created"].as_u64() > Some(1_500_000_000));
    assert_eq!(get("/v1/models/qa").await, (StatusCode::OK, model.clone()));
    for unknown in ["/v1/models/gpt", "/v1/models/org/gpt"] {
        let (status, error) = get(unknown).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(error["error"]["code"], "model_not_found");
    }
}

#[tokio::test]
async fn the_name_of_a_model_may_have_a_slash() {
    let streaming = script(|| vec![done(json!({"answer": "x"}))]);
    let programs = ChatPrograms::new().program("org/qa", fields(), whole(), streaming);
    let app: Router = chat_completions(programs);
    for path in ["/v1/models/org/qa", "/v1/models/org%2Fqa"] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(read_json(response).await["id"], "org/qa");
    }
}
