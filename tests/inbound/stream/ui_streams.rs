//! The UI message stream of Vercel's AI SDK.

use http::StatusCode;
use serde_json::json;

use super::{
    super::support::header, UI_CHAT, app, ask, busy, data, data_events, done, errors,
    prediction_json, read, refuses, script, status, text, thinking, tool_call, tool_result,
    written,
};

#[tokio::test]
async fn each_chunk_is_written_to_the_byte() {
    let streaming = script(|| {
        vec![
            status("Searching"),
            thinking(1, "hm"),
            text(1, "reasoning", "it"),
            text(1, "reasoning", " is"),
            text(1, "next_tool", "search"),
            tool_call(1),
            tool_result(1, Ok(json!(["blue"]))),
            tool_call(2),
            tool_result(2, Err("no".into())),
            text(2, "answer", "Ray"),
            text(2, "answer", "leigh"),
            done(json!({"answer": "Rayleigh"})),
        ]
    });
    let response = ask(&app(&streaming), "/chat", UI_CHAT).await;
    assert_eq!(response.status(), StatusCode::OK);
    let headers = response.headers();
    assert_eq!(header(headers, "content-type"), Some("text/event-stream"));
    assert_eq!(header(headers, "x-vercel-ai-ui-message-stream"), Some("v1"));
    assert_eq!(header(headers, "x-accel-buffering"), Some("no"));
    let prediction = prediction_json(&json!({"answer": "Rayleigh"}));
    let expected = data_events(&[
        r#"{"type":"start"}"#,
        r#"{"type":"data-status","data":{"message":"Searching"},"transient":true}"#,
        r#"{"type":"start-step"}"#,
        r#"{"type":"reasoning-start","id":"1:thinking","providerMetadata":{"towerDspy":{"part":"1:thinking"}}}"#,
        r#"{"type":"reasoning-delta","id":"1:thinking","delta":"hm"}"#,
        r#"{"type":"reasoning-end","id":"1:thinking"}"#,
        r#"{"type":"reasoning-start","id":"1.reasoning","providerMetadata":{"towerDspy":{"part":"1.reasoning"}}}"#,
        r#"{"type":"reasoning-delta","id":"1.reasoning","delta":"it"}"#,
        r#"{"type":"reasoning-delta","id":"1.reasoning","delta":" is"}"#,
        r#"{"type":"tool-input-available","toolCallId":"tool-1","toolName":"search","input":{"query":"sky"},"providerExecuted":true,"dynamic":true}"#,
        r#"{"type":"tool-output-available","toolCallId":"tool-1","output":["blue"],"providerExecuted":true,"dynamic":true}"#,
        r#"{"type":"tool-input-available","toolCallId":"tool-2","toolName":"search","input":{"query":"sky"},"providerExecuted":true,"dynamic":true}"#,
        r#"{"type":"tool-output-error","toolCallId":"tool-2","errorText":"no","providerExecuted":true,"dynamic":true}"#,
        r#"{"type":"reasoning-end","id":"1.reasoning"}"#,
        r#"{"type":"finish-step"}"#,
        r#"{"type":"start-step"}"#,
        r#"{"type":"text-start","id":"2.answer","providerMetadata":{"towerDspy":{"part":"2.answer"}}}"#,
        r#"{"type":"text-delta","id":"2.answer","delta":"Ray"}"#,
        r#"{"type":"text-delta","id":"2.answer","delta":"leigh"}"#,
        r#"{"type":"text-end","id":"2.answer"}"#,
        r#"{"type":"finish-step"}"#,
        &format!(r#"{{"type":"data-prediction","data":{prediction}}}"#),
        r#"{"type":"finish","finishReason":"stop"}"#,
        "[DONE]",
    ]);
    assert_eq!(read(response).await, expected);
}

#[tokio::test]
async fn an_answer_that_was_not_streamed_is_sent_at_the_end() {
    for (output, shown) in [(json!("blue"), "blue"), (json!(["a", 1]), "[\"a\",1]")] {
        let outputs = json!({ "answer": output });
        let streaming = script(move || vec![done(outputs.clone())]);
        let body = written(&streaming, "/chat", UI_CHAT).await;
        let chunks = data(&body);
        let types: Vec<_> = chunks.iter().map(|chunk| &chunk["type"]).collect();
        assert_eq!(
            types,
            [
                "start",
                "start-step",
                "text-start",
                "text-delta",
                "text-end",
                "finish-step",
                "data-prediction",
                "finish"
            ]
        );
        assert_eq!(chunks[3]["delta"], shown);
    }
}

#[tokio::test]
async fn a_failure_is_an_error_and_a_limit_an_abort_as_well() {
    for n in 0..errors().len() {
        let streaming = script(move || {
            let error = errors().swap_remove(n);
            vec![text(1, "answer", "Ray"), Err(error)]
        });
        let body = written(&streaming, "/chat", UI_CHAT).await;
        let chunks = data(&body);
        let types: Vec<_> = chunks[3..]
            .iter()
            .filter_map(|chunk| chunk["type"].as_str())
            .collect();
        assert!(!types.contains(&"finish") && !types.contains(&"text-end"));
        assert!(body.contains("\"delta\":\"Ray\""));
        match chunks[5]["reason"].as_str() {
            Some(reason) => {
                assert!(["deadline", "elapsed", "cancelled", "shutting_down"].contains(&reason));
                assert_eq!(types, ["text-delta", "data-error", "abort", "error"]);
            }
            None => assert_eq!(types, ["text-delta", "data-error", "error"]),
        }
        assert!(body.ends_with("data: [DONE]\n\n"));
    }
}

#[tokio::test]
async fn a_deadline_is_written_to_the_byte() {
    let deadline = || tower_dspy::testing::error_of(tower_dspy::ErrorKind::Deadline).unwrap();
    let streaming = script(move || vec![text(1, "answer", "Ray"), Err(deadline())]);
    let body = written(&streaming, "/chat", UI_CHAT).await;
    let expected = data_events(&[
        r#"{"type":"data-error","data":{"title":"Gateway Timeout","status":504,"detail":"the request's deadline passed, and the work was stopped","kind":"deadline","call_id":17},"transient":true}"#,
        r#"{"type":"abort","reason":"deadline"}"#,
        r#"{"type":"error","errorText":"the request's deadline passed, and the work was stopped"}"#,
        "[DONE]",
    ]);
    assert!(body.ends_with(&expected), "{body}");
}

#[tokio::test]
async fn an_error_before_the_first_event_is_a_response() {
    let response = ask(&app(&refuses(busy)), "/chat", UI_CHAT).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(response.headers(), "retry-after"), Some("7"));
}

#[tokio::test]
async fn a_prediction_without_the_answer_is_an_error() {
    let streaming = script(|| vec![status("x"), done(json!({"other": 1}))]);
    let body = written(&streaming, "/chat", UI_CHAT).await;
    let last = data(&body).pop().unwrap();
    assert_eq!(last["type"], "error");
    assert_eq!(
        last["errorText"],
        "the program's prediction has no output `answer`"
    );
    let streaming = script(|| vec![done(json!({"other": 1}))]);
    let response = ask(&app(&streaming), "/chat", UI_CHAT).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
}
