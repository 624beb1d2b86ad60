//! Streamed chat completions.

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    super::support::{header, json as read_json},
    CHAT, Item, app, ask, broken, busy, data, data_events, done, errors, read, refuses, replace,
    restart, script, status, text, thinking, tool_call, written,
};

const PATH: &str = "/v1/chat/completions";

/// The body with the identifier and the time, which are others each time, put aside.
fn without_id(body: &str) -> String {
    let first = &data(body)[0];
    let (id, created) = (first["id"].as_str().unwrap(), &first["created"]);
    assert!(id.starts_with("chatcmpl-"));
    let of = format!(
        "\"id\":\"{id}\",\"object\":\"chat.completion.chunk\",\"created\":{created},\"model\":\"qa\","
    );
    body.replace(&of, "")
}

#[tokio::test]
async fn each_chunk_is_written_to_the_byte() {
    let streaming = script(|| {
        vec![
            status("Searching"),
            tool_call(1),
            thinking(1, "hm"),
            thinking(1, "m"),
            text(1, "reasoning", "it is"),
            text(1, "other", "x"),
            text(1, "answer", "Ray"),
            text(1, "answer", "leigh"),
            done(json!({"answer": "Rayleigh"})),
        ]
    });
    let response = ask(&app(&streaming), PATH, CHAT).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        header(response.headers(), "content-type"),
        Some("text/event-stream")
    );
    let expected = data_events(&[
        r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
        r#"{"choices":[{"index":0,"delta":{"reasoning_content":"hm"},"finish_reason":null}]}"#,
        r#"{"choices":[{"index":0,"delta":{"reasoning_content":"m"},"finish_reason":null}]}"#,
        r#"{"choices":[{"index":0,"delta":{"reasoning_content":"\n\nit is"},"finish_reason":null}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"Ray"},"finish_reason":null}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"leigh"},"finish_reason":null}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        "[DONE]",
    ]);
    assert_eq!(without_id(&read(response).await), expected);
}

#[tokio::test]
async fn the_usage_is_the_last_chunk_on_request() {
    let streaming = script(|| vec![text(1, "answer", "a"), done(json!({"answer": "a"}))]);
    let mut asked: Value = serde_json::from_str(CHAT).unwrap();
    asked["stream_options"] = json!({"include_usage": true});
    let body = written(&streaming, PATH, &asked.to_string()).await;
    let expected = data_events(&[
        r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}],"usage":null}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#,
        "[DONE]",
    ]);
    assert_eq!(without_id(&body), expected);
}

/// The content that was sent, and the type of the error at the end.
async fn of(events: impl Fn() -> Vec<Item> + Send + Sync + 'static) -> (String, Option<String>) {
    let body = written(&script(events), PATH, CHAT).await;
    let chunks = data(&body);
    let content = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    let error = chunks.last().unwrap()["error"]["type"].as_str();
    let finished = chunks
        .iter()
        .any(|chunk| chunk["choices"][0]["finish_reason"] == "stop");
    assert_eq!(error.is_none(), finished, "{body}");
    assert_eq!(finished, body.ends_with("data: [DONE]\n\n"), "{body}");
    (content, error.map(str::to_owned))
}

#[tokio::test]
async fn an_answer_that_was_not_streamed_is_sent_at_the_end() {
    for (output, shown) in [(json!("blue"), "blue"), (json!(7), "7"), (json!(""), "")] {
        let outputs = json!({ "answer": output });
        let (content, error) = of(move || vec![done(outputs.clone())]).await;
        assert_eq!((&*content, error), (shown, None));
    }
    let (content, error) =
        of(|| vec![text(1, "answer", "go"), done(json!({"answer": "good"}))]).await;
    assert_eq!((&*content, error), ("good", None));
}

#[tokio::test]
async fn a_restart_of_text_that_was_sent_is_an_error() {
    let restarted = Some("stream_restarted".to_owned());
    let (content, error) = of(|| {
        vec![
            text(1, "answer", "wrong"),
            restart(1),
            text(2, "answer", "right"),
            done(json!({"answer": "right"})),
        ]
    })
    .await;
    assert_eq!((&*content, error), ("wrong", restarted.clone()));
    let (content, error) = of(|| {
        vec![
            text(1, "answer", "wrogn"),
            replace(1, "answer", "wrong"),
            done(json!({"answer": "wrong"})),
        ]
    })
    .await;
    assert_eq!((&*content, error), ("wrogn", restarted.clone()));
    let (content, error) = of(|| {
        vec![
            text(1, "answer", "bad"),
            text(2, "answer", "good"),
            done(json!({"answer": "good"})),
        ]
    })
    .await;
    assert_eq!((&*content, error), ("bad", restarted));
}

#[tokio::test]
async fn a_restart_that_does_not_concern_what_was_sent_is_no_error() {
    let (content, error) = of(|| {
        vec![
            thinking(1, "hm"),
            restart(1),
            text(2, "answer", "ri"),
            replace(2, "answer", "right"),
            // Others write the answer too, and the first is the best.
            text(3, "answer", "worse"),
            restart(3),
            done(json!({"answer": "right"})),
        ]
    })
    .await;
    assert_eq!((&*content, error), ("right", None));
}

#[tokio::test]
async fn an_lm_call_of_which_no_text_was_sent_may_restart() {
    let (content, error) = of(|| {
        vec![
            replace(1, "answer", ""),
            restart(1),
            text(2, "answer", "right"),
            done(json!({"answer": "right"})),
        ]
    })
    .await;
    assert_eq!((&*content, error), ("right", None));
    // Its place is free without the restart as well, for the text of another one as it comes.
    let streaming = script(|| {
        vec![
            replace(1, "answer", ""),
            text(2, "answer", "right"),
            Err(broken()),
        ]
    });
    let body = written(&streaming, PATH, CHAT).await;
    assert!(body.contains("\"content\":\"right\""), "{body}");
}

#[tokio::test]
async fn a_replacement_of_reasoning_sends_what_it_adds() {
    let streaming = script(|| {
        vec![
            replace(1, "reasoning", "it"),
            text(1, "reasoning", " is"),
            replace(1, "reasoning", "it is so"),
            // No continuations: what was sent stays.
            replace(1, "reasoning", "it was"),
            replace(1, "reasoning", "it is"),
            replace(2, "reasoning", "and so"),
            done(json!({"answer": "x"})),
        ]
    });
    let body = written(&streaming, PATH, CHAT).await;
    let chunks = data(&body);
    let sent = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]);
    let sent: Vec<_> = sent
        .filter_map(|delta| delta["reasoning_content"].as_str())
        .collect();
    assert_eq!(sent, ["it", " is", " so", "\n\nand so"]);
}

#[tokio::test]
async fn an_error_after_the_first_text_is_the_last_chunk() {
    for n in 0..errors().len() {
        let (content, error) = of(move || {
            let error = errors().swap_remove(n);
            vec![text(1, "answer", "Ray"), Err(error)]
        })
        .await;
        assert_eq!(content, "Ray");
        assert!(error.is_some());
    }
    let streaming = script(|| vec![text(1, "answer", "Ray"), Err(broken())]);
    let body = written(&streaming, PATH, CHAT).await;
    let expected = "data: {\"error\":{\"message\":\"what ran the call is gone; try again\",\
                    \"type\":\"server_error\",\"param\":null,\"code\":\"lost\",\
                    \"call_id\":17}}\n\n";
    assert!(body.ends_with(expected), "{body}");
}

#[tokio::test]
async fn an_error_before_the_first_text_has_its_status() {
    let late = || {
        script(|| {
            vec![
                status("x"),
                tool_call(1),
                text(1, "other", "x"),
                Err(busy()),
            ]
        })
    };
    for streaming in [refuses(busy), late()] {
        let response = ask(&app(&streaming), PATH, CHAT).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let headers = response.headers();
        assert_eq!(header(headers, "retry-after"), Some("7"));
        assert_eq!(header(headers, "content-type"), Some("application/json"));
        assert_eq!(header(headers, "x-should-retry"), None);
        let error = read_json(response).await;
        assert_eq!(error["error"]["type"], "server_error");
        assert_eq!(error["error"]["code"], "lm_unavailable");
    }
    for n in 0..errors().len() {
        let error = move || errors().swap_remove(n);
        let expected = tower_dspy::inbound::respond::ErrorResponse::of(error());
        let response = ask(&app(&refuses(error)), PATH, CHAT).await;
        assert_eq!(response.status(), expected.status());
        let retries = header(response.headers(), "x-should-retry");
        let is_final = [500, 502].contains(&expected.status().as_u16());
        assert_eq!(retries, is_final.then_some("false"));
    }
}
