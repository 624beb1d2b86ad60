//! Each reply on the wire.

use std::sync::Arc;

use super::*;

#[tokio::test]
async fn an_answer_is_formatted_for_dspy() {
    let lm = shared().await;
    lm.script("capital", Reply::answer("Paris"));
    let expected = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]";
    assert_eq!(answer(lm, "capital").await, expected);
    let seen = lm.wait_for("capital", answered).await.expect(SEEN);
    assert_eq!(seen[0].body, Arc::new(chat("capital")));
    assert_eq!(seen[0].tokens, expected.split_whitespace().count());
    assert_eq!(seen[0].token_times.len(), seen[0].tokens);
    assert!(seen[0].finished.is_some() && seen[0].client_gone.is_none());
}

#[tokio::test]
async fn fields_are_json_if_json_is_asked_for() {
    let lm = shared().await;
    lm.script(
        "json",
        Reply::fields([("reasoning", "so"), ("answer", "x")]),
    );
    let mut body = chat("json");
    body["response_format"] = json!({"type": "json_object"});
    let body: Value = post(lm, &body).await.unwrap().json().await.unwrap();
    let content = body["choices"][0]["message"]["content"].as_str().unwrap();
    let fields: Value = serde_json::from_str(content).unwrap();
    assert_eq!(fields, json!({"reasoning": "so", "answer": "x"}));
}

#[tokio::test]
async fn fields_are_json_if_the_prompt_asks_for_json() {
    let lm = shared().await;
    lm.script("json-prompt", Reply::answer("x"));
    let mut body = chat("json-prompt");
    body["messages"][0]["content"] = json!("Respond with a JSON object: `answer`.");
    let body: Value = post(lm, &body).await.unwrap().json().await.unwrap();
    assert_eq!(
        body["choices"][0]["message"]["content"],
        r#"{"answer":"x"}"#
    );
}

#[tokio::test]
async fn a_model_without_a_script_echoes() {
    let lm = shared().await;
    assert_eq!(answer(lm, "nobody").await, "You said: ping");
}

#[tokio::test]
async fn a_stream_has_the_content_of_the_body() {
    let lm = shared().await;
    lm.script("both", Reply::answer("one two"));
    let whole = answer(lm, "both").await;
    let response = post(lm, &streamed("both")).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.unwrap();
    let events = events(&text);
    assert_eq!(contents(&events), whole);

    let [.., closing, usage, done] = events[..] else {
        panic!("too few events: {events:?}");
    };
    assert_eq!(done, "[DONE]");
    let closing: Value = serde_json::from_str(closing).unwrap();
    assert_eq!(closing["choices"][0]["finish_reason"], "stop");
    let usage: Value = serde_json::from_str(usage).unwrap();
    let seen = lm.wait_for("both", answered).await.expect(SEEN);
    assert_eq!(usage["usage"]["completion_tokens"], seen[1].tokens);
    assert_eq!(seen[0].tokens, seen[1].tokens);
}

#[tokio::test]
async fn a_stream_has_usage_only_if_asked() {
    let lm = shared().await;
    let mut body = streamed("plain-stream");
    body["stream_options"] = Value::Null;
    let text = post(lm, &body).await.unwrap().text().await.unwrap();
    assert!(!text.contains("usage"), "{text}");
}

#[tokio::test]
async fn the_nth_request_gets_the_nth_reply_and_the_last_repeats() {
    let lm = shared().await;
    let script = [Reply::content("a"), Reply::content("b")];
    lm.script("steps", script);
    assert_eq!(answer(lm, "steps").await, "a");
    assert_eq!(answer(lm, "steps").await, "b");
    assert_eq!(answer(lm, "steps").await, "b");
    lm.script("steps", [Reply::content("c"), Reply::content("d")]);
    assert_eq!(answer(lm, "steps").await, "c");
    assert_eq!(answer(lm, "steps").await, "d");
    lm.script("steps", vec![]);
    assert_eq!(answer(lm, "steps").await, "You said: ping");
    let numbers: Vec<_> = lm.requests("steps").iter().map(|r| r.n).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn an_error_has_its_status_and_retry_after() {
    let lm = shared().await;
    lm.script("busy", Reply::status(429).retry_after(7));
    let response = post(lm, &chat("busy")).await.unwrap();
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "7");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["type"], "rate_limit_error");
    lm.wait_for("busy", answered).await.expect(SEEN);
}

#[tokio::test]
async fn an_invalid_status_becomes_500() {
    let lm = shared().await;
    lm.script("nonsense", [Reply::status(7), Reply::status(101)]);
    for _ in 0..2 {
        assert_eq!(post(lm, &chat("nonsense")).await.unwrap().status(), 500);
    }
}

#[tokio::test]
async fn a_garbage_reply_is_not_json() {
    let lm = shared().await;
    lm.script("garbage", Reply::garbage());
    let response = post(lm, &chat("garbage")).await.unwrap();
    assert_eq!(response.status(), 200);
    let text = response.text().await.unwrap();
    assert!(serde_json::from_str::<Value>(&text).is_err(), "{text}");
    let text = post(lm, &streamed("garbage"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        serde_json::from_str::<Value>(events(&text)[0]).is_err(),
        "{text}"
    );
}

#[tokio::test]
async fn a_cut_reply_sends_exactly_its_bytes_and_closes() {
    let lm = shared().await;
    for (model, bytes) in [("cut-0", 0), ("cut-1", 1), ("cut-40", 40)] {
        lm.script(model, Reply::echo().cut_after(bytes));
        let mut tcp = raw(lm, &chat(model)).await;
        let mut text = String::new();
        tcp.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("the head is whole");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(body.len(), bytes);
        lm.wait_for(model, answered).await.expect(SEEN);
    }
}

#[tokio::test]
async fn a_cut_stream_ends_early() {
    let lm = shared().await;
    lm.script("cut-stream", Reply::echo().cut_after(300));
    let mut response = post(lm, &streamed("cut-stream")).await.unwrap();
    let mut length = 0;
    let error = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => length += chunk.len(),
            Ok(None) => panic!("the stream ended well"),
            Err(error) => break error,
        }
    };
    assert!(!error.is_timeout());
    assert_eq!(length, 300);
}

#[tokio::test]
async fn a_body_shorter_than_the_cut_is_whole() {
    let lm = shared().await;
    lm.script("uncut", Reply::content("x").cut_after(100_000));
    assert_eq!(answer(lm, "uncut").await, "x");
}
