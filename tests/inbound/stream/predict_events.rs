//! This crate's own dialect.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use serde_json::json;
use tower_dspy::{
    Elapsed, LmCall, LmOutcome, Scope, Spent, Stage, StreamEvent,
    inbound::axum::stream::StreamOptions,
};

use super::{
    super::support::header, QUESTION, app, ask, broken, busy, data, done, errors, prediction,
    prediction_json, read, refuses, replace, restart, script, status, text, thinking, tool_call,
    tool_result, written,
};

#[tokio::test]
async fn each_event_is_written_to_the_byte() {
    let streaming = script(|| {
        vec![
            status("Searching"),
            thinking(1, "hm\n"),
            text(1, "answer", "Ray\r\n\u{2028}"),
            restart(1),
            text(2, "answer", "Mie"),
            replace(2, "answer", "Rayleigh"),
            tool_call(1),
            tool_result(1, Ok(json!([1, null]))),
            tool_call(2),
            tool_result(2, Err("no".into())),
            done(json!({"answer": "Rayleigh"})),
        ]
    });
    let response = ask(&app(&streaming), "/qa", QUESTION).await;
    assert_eq!(response.status(), StatusCode::OK);
    let headers = response.headers();
    assert_eq!(header(headers, "content-type"), Some("text/event-stream"));
    assert_eq!(
        header(headers, "cache-control"),
        Some("no-cache, no-transform")
    );
    assert_eq!(header(headers, "x-accel-buffering"), Some("no"));
    assert_eq!(header(headers, "x-tower-dspy-stream"), Some("v1"));
    let expected = [
        r#"event: status
data: {"message":"Searching"}"#,
        r#"event: thinking
data: {"lm_call":1,"predictor":"self","delta":"hm\n"}"#,
        "event: text\ndata: {\"lm_call\":1,\"predictor\":\"self\",\"field\":\"answer\",\
         \"delta\":\"Ray\\r\\n\u{2028}\"}",
        r#"event: restart
data: {"lm_call":1,"predictor":"self"}"#,
        r#"event: text
data: {"lm_call":2,"predictor":"self","field":"answer","delta":"Mie"}"#,
        r#"event: replace
data: {"lm_call":2,"predictor":"self","field":"answer","text":"Rayleigh"}"#,
        r#"event: tool_call
data: {"id":1,"name":"search","arguments":{"query":"sky"}}"#,
        r#"event: tool_result
data: {"id":1,"name":"search","result":[1,null]}"#,
        r#"event: tool_call
data: {"id":2,"name":"search","arguments":{"query":"sky"}}"#,
        r#"event: tool_result
data: {"id":2,"name":"search","error":"no"}"#,
        &format!(
            "event: done\ndata: {}",
            prediction_json(&json!({"answer": "Rayleigh"}))
        ),
        "",
    ];
    assert_eq!(read(response).await, expected.join("\n\n"));
}

#[tokio::test]
async fn an_error_after_the_head_is_the_last_event() {
    let streaming = script(|| vec![text(1, "answer", "Ray"), Err(broken())]);
    let body = written(&streaming, "/qa", QUESTION).await;
    let expected = "event: error\ndata: {\"title\":\"Service Unavailable\",\"status\":503,\
                    \"detail\":\"what ran the call is gone; try again\",\"kind\":\"lost\",\
                    \"call_id\":17,\"partial\":{\"answer\":\"Ray\"}}\n\n";
    assert_eq!(body.split_once("\n\n").unwrap().1, expected);

    let streaming = script(|| vec![text(1, "answer", "Ray"), Err(busy())]);
    let body = written(&streaming, "/qa", QUESTION).await;
    assert_eq!(data(&body)[1]["retry_after_ms"], 6500);
    assert!(!body.contains("a prompt"));
}

#[tokio::test]
async fn a_stream_that_fails_has_no_done() {
    for n in 0..errors().len() {
        let streaming = script(move || {
            let error = errors().swap_remove(n);
            vec![text(1, "answer", "Ray"), Err(error)]
        });
        let body = written(&streaming, "/qa", QUESTION).await;
        assert!(!body.contains("event: done"), "{body}");
        assert!(body.contains("event: error"), "{body}");
    }
    // A service that breaks its promise of a last event.
    let streaming = script(|| vec![text(1, "answer", "Ray")]);
    let body = written(&streaming, "/qa", QUESTION).await;
    assert_eq!(data(&body)[1]["kind"], "lost");
}

#[tokio::test]
async fn an_error_before_the_first_event_is_a_response() {
    let services = [refuses(busy), script(|| vec![Err(busy())])];
    for streaming in services {
        let response = ask(&app(&streaming), "/qa", QUESTION).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let headers = response.headers();
        assert_eq!(header(headers, "retry-after"), Some("7"));
        assert_eq!(
            header(headers, "content-type"),
            Some("application/problem+json")
        );
        let problem: serde_json::Value = serde_json::from_str(&read(response).await).unwrap();
        assert_eq!(problem["kind"], "lm_unavailable");
    }
}

#[tokio::test]
async fn tools_thinking_and_statuses_are_left_out_on_request() {
    let streaming = script(|| {
        vec![
            thinking(1, "hm"),
            status("Calling tool search..."),
            tool_call(1),
            tool_result(1, Ok(json!("secret"))),
            tool_call(2),
            tool_result(2, Err("the secret is gone".into())),
            text(1, "answer", "a"),
            done(json!({"answer": "a"})),
        ]
    });
    let all = StreamOptions::new();
    let none = all.without_tools().without_thinking().without_statuses();
    for (path, body) in super::DIALECTS {
        let app = super::app_with(&streaming, none);
        let body = read(ask(&app, path, body).await).await;
        assert!(!body.contains("secret"), "{body}");
        assert!(!body.contains("search"), "{body}");
        assert!(!body.contains("hm"), "{body}");
    }
    // Each hides its own events.
    for (options, hidden) in [
        (all.without_tools(), "tool_"),
        (all.without_thinking(), "thinking"),
        (all.without_statuses(), "status"),
    ] {
        let app = super::app_with(&streaming, options);
        let body = read(ask(&app, "/qa", QUESTION).await).await;
        for kind in ["tool_", "thinking", "status"] {
            let shows = body.contains(&format!("event: {kind}"));
            assert_eq!(shows, kind != hidden, "{body}");
        }
    }
}

#[tokio::test]
async fn the_documented_exchange_is_what_is_sent() {
    let documented = include_str!("../../../src/inbound/axum/stream/events.md");
    let (_, rest) = documented
        .split_once("transfer-encoding: chunked\n\n")
        .unwrap();
    let (whole, rest) = rest.split_once("\n```").unwrap();
    let (_, rest) = rest.split_once("```text\n").unwrap();
    let (failed, _) = rest.split_once("\n```").unwrap();
    let (_, asked) = documented.split_once("content-length: 35\n\n").unwrap();
    let question = asked.lines().next().unwrap();
    assert_eq!(question.len(), 35);

    let events = || {
        vec![
            status("Searching"),
            text(1, "answer", "Rayleigh"),
            text(1, "answer", " scattering"),
        ]
    };
    let streaming = script(move || {
        let mut answer = prediction(json!({"answer": "Rayleigh scattering"}));
        answer.lm_calls = vec![LmCall::new("openai", "small", LmOutcome::Answered)];
        let mut events = events();
        events.push(Ok(StreamEvent::Done(Box::new(answer))));
        events
    });
    let response = ask(&app(&streaming), "/qa", question).await;
    for (name, value) in response.headers() {
        let line = format!("{name}: {}\n", value.to_str().unwrap());
        assert!(documented.contains(&line), "{line}");
    }
    assert_eq!(read(response).await.trim_end(), whole);

    let streaming = script(move || {
        let mut spent = Spent::default();
        spent.partial = json!({"answer": "Rayleigh"}).as_object().cloned();
        let limit = Duration::from_secs(30);
        let passed = Elapsed::new(Scope::Deadline, Stage::Running, limit);
        let mut events = events();
        events.truncate(2);
        events.push(Err(passed.with_spent(Arc::new(spent)).into()));
        events
    });
    let body = written(&streaming, "/qa", question).await;
    assert!(body.trim_end().ends_with(failed), "{body}");
}
