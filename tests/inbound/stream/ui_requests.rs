//! What `useChat` sends.

use http::StatusCode;
use serde_json::{Value, json};

use super::{app, ask, seen};

async fn inputs(body: Value) -> Result<Value, (StatusCode, String)> {
    let (service, mut seen) = seen();
    let response = ask(&app(&service), "/chat", body.to_string()).await;
    let status = response.status();
    let said = super::read(response).await;
    match seen.try_recv() {
        Ok((inputs, _)) => Ok(inputs),
        Err(_) => Err((status, said)),
    }
}

fn user(text: &str) -> Value {
    json!({"id": "u", "role": "user", "parts": [{"type": "text", "text": text}]})
}

#[tokio::test]
async fn the_last_message_and_the_turns_before_it_become_inputs() {
    let body = json!({
        "id": "chat",
        "trigger": "submit-message",
        "messages": [
            {"id": "s", "role": "system", "parts": [{"type": "text", "text": "be nice"}]},
            user("one"),
            {"id": "a", "role": "assistant", "metadata": {}, "parts": [
                {"type": "step-start"},
                {"type": "reasoning", "text": "hm", "state": "done"},
                {"type": "text", "text": "a ", "state": "done"},
                {"type": "dynamic-tool", "toolName": "x", "toolCallId": "t", "state": "input-available", "input": {}},
                {"type": "text", "text": "b", "state": "done"},
            ]},
            user("two"),
            {"id": "b", "role": "assistant", "parts": [
                {"type": "text", "text": "a draft"},
                {"type": "text", "text": "final"},
                {"type": "data-prediction", "data": {"outputs": {"answer": "final"}}},
            ]},
            {"id": "u", "role": "user", "parts": [
                {"type": "text", "text": "thr"}, {"type": "text", "text": "ee"}, {"type": "data-x", "data": 1},
            ]},
        ],
    });
    assert_eq!(
        inputs(body).await.unwrap(),
        json!({"question": "three", "history": {"messages": [
            {"question": "one", "answer": "a b"},
            {"question": "two", "answer": "final"},
        ]}})
    );
}

#[tokio::test]
async fn wrong_messages_are_refused_by_422() {
    let file = json!({"type": "file", "mediaType": "image/png", "url": "data:,"});
    for body in [
        json!({}),
        json!([]),
        json!(null),
        json!({"messages": []}),
        json!({"messages": "why"}),
        json!({"messages": [1]}),
        json!({"messages": [{"role": "user"}]}),
        json!({"messages": [{"role": "user", "parts": [{"type": "text"}]}]}),
        json!({"messages": [{"role": "user", "parts": [{"type": "text", "text": 1}]}]}),
        json!({"messages": [{"role": "user", "parts": [file]}]}),
        json!({"messages": [{"role": "wizard", "parts": []}]}),
        json!({"messages": [user("one"), {"role": "assistant", "parts": []}]}),
    ] {
        let (status, said) = inputs(body.clone()).await.expect_err("it is wrong");
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {said}");
        assert!(said.contains("\"kind\":\"invalid_input\""), "{said}");
    }
}

#[tokio::test]
async fn the_call_has_the_context_of_the_request() {
    let (service, mut seen) = seen();
    for (path, body) in super::DIALECTS {
        let mut request = super::request(path, body);
        let limit = "5".parse().unwrap();
        request.headers_mut().insert("x-request-timeout", limit);
        let response = tower::ServiceExt::oneshot(app(&service), request)
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let (_, context) = seen.recv().await.unwrap();
        assert!(context.deadline.is_some(), "{path}");
    }
}
