//! Anthropic's and Gemini's forms, and what holds whatever the dialect: TLS, forgetting.

use super::*;

/// A request with a question, by the path that the dialect has for it.
fn anthropic(model: &str, stream: bool) -> (String, Value) {
    let mut body = chat(model);
    body["stream"] = json!(stream);
    ("/messages".to_owned(), body)
}

fn gemini(model: &str, stream: bool) -> (String, Value) {
    let method = if stream {
        "streamGenerateContent?alt=sse"
    } else {
        "generateContent"
    };
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "ping"}]}]});
    (format!("/models/{model}:{method}"), body)
}

async fn send(lm: &ScriptedLm, (path, body): (String, Value)) -> reqwest::Response {
    let url = format!("{}{path}", lm.base_url());
    let call = reqwest::Client::new().post(url).json(&body);
    let call = call.header("x-api-key", "A").header("x-goog-api-key", "G");
    call.send().await.expect("an answer comes")
}

#[tokio::test]
async fn each_dialect_answers_in_its_own_form() {
    let lm = shared().await;
    let body: Value = send(lm, anthropic("a-whole", false))
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(body["content"][0]["text"], "You said: ping");
    assert_eq!(body["stop_reason"], "end_turn");
    assert_eq!(
        body["usage"],
        json!({"input_tokens": 1, "output_tokens": 3})
    );

    let body: Value = send(lm, gemini("g-whole", false))
        .await
        .json()
        .await
        .unwrap();
    let candidate = &body["candidates"][0];
    assert_eq!(candidate["content"]["parts"][0]["text"], "You said: ping");
    assert_eq!(candidate["finishReason"], "STOP");
    assert_eq!(body["usageMetadata"]["totalTokenCount"], 4);

    let key = |model| lm.requests(model)[0].authorization().map(str::to_owned);
    assert_eq!(key("a-whole").as_deref(), Some("A"));
    assert_eq!(key("g-whole").as_deref(), Some("G"));
}

#[tokio::test]
async fn each_dialect_streams_the_content_of_its_body() {
    let lm = shared().await;
    let text = |path: &str, events: &[Value]| -> String {
        events
            .iter()
            .filter_map(|e| e.pointer(path)?.as_str())
            .collect()
    };

    let stream = send(lm, anthropic("a-stream", true))
        .await
        .text()
        .await
        .unwrap();
    let events: Vec<Value> = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert_eq!(text("/delta/text", &events), "You said: ping");
    assert_eq!(events.last().unwrap()["type"], "message_stop");
    assert!(stream.starts_with("event: message_start\n"), "{stream}");

    let stream = send(lm, gemini("g-stream", true))
        .await
        .text()
        .await
        .unwrap();
    let events: Vec<Value> = super::events(&stream)
        .into_iter()
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let path = "/candidates/0/content/parts/0/text";
    assert_eq!(text(path, &events), "You said: ping");
    let last = events.last().unwrap();
    assert_eq!(last["usageMetadata"]["candidatesTokenCount"], 3);
}

#[tokio::test]
async fn each_dialect_has_its_own_form_of_error() {
    let lm = shared().await;
    for model in ["a-busy", "g-busy"] {
        lm.script(model, Reply::status(429).retry_after(7));
    }
    let answer = send(lm, anthropic("a-busy", false)).await;
    assert_eq!(answer.headers()["retry-after"], "7");
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["type"], "rate_limit_error");
    let body: Value = send(lm, gemini("g-busy", false))
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(body["error"]["status"], "RESOURCE_EXHAUSTED");

    // A body without what the dialect calls its messages.
    let (path, _) = gemini("g-empty", false);
    let answer = send(lm, (path, json!({"messages": []}))).await;
    assert_eq!(answer.status(), 400);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["status"], "INVALID_ARGUMENT");
}

#[tokio::test]
async fn over_tls_a_trusting_client_is_answered_and_its_disconnect_is_noticed() {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (own.cert.der(), own.signing_key.serialize_der());
    let lm = ScriptedLm::start_tls(certificate, &key).await.unwrap();
    assert!(post(&lm, &chat("untrusted")).await.is_err());
    assert!(lm.requests("untrusted").is_empty());

    let trusted = reqwest::Certificate::from_der(certificate).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([trusted])
        .build()
        .unwrap();
    let url = format!("{}/chat/completions", lm.base_url());
    let call = |model| client.post(&url).json(&chat(model)).send();
    assert_eq!(call("trusted").await.unwrap().status(), 200);
    lm.script("hangs", Reply::hang());
    tokio::select! {
        _ = call("hangs") => unreachable!("it never answers"),
        seen = lm.wait_for("hangs", running(0)) => { seen.expect(SEEN); }
    }
    lm.wait_for("hangs", gone).await.expect(SEEN);
    assert!(ScriptedLm::start_tls(certificate, b"no key").await.is_err());
}

#[tokio::test]
async fn requests_are_numbered_on_after_a_forget() {
    let lm = shared().await;
    let gate = Gate::new();
    lm.script(
        "forgotten",
        [Reply::echo().held_by(&gate), Reply::content("b")],
    );
    let mut first = raw(lm, &chat("forgotten")).await;
    lm.wait_for("forgotten", running(0)).await.expect(SEEN);
    lm.forget("forgotten");
    assert!(lm.requests("forgotten").is_empty());
    assert_eq!(answer(lm, "forgotten").await, "b");
    gate.open();
    read_until(&mut first, "\r\n\r\n").await;
    let seen = lm.wait_for("forgotten", answered).await.expect(SEEN);
    assert_eq!(seen.iter().map(|r| r.n).collect::<Vec<_>>(), [1]);
}
