//! What a stream has beside its text, in the form of each dialect, and how its text is cut.

use super::*;

/// A streamed request in the dialect of `path`.
fn request(dialect: &str, model: &str) -> (String, Value) {
    match dialect {
        "openai" => ("/chat/completions".to_owned(), streamed(model)),
        "anthropic" => ("/messages".to_owned(), streamed(model)),
        _ => {
            let content = json!({"role": "user", "parts": [{"text": "ping"}]});
            let path = format!("/models/{model}:streamGenerateContent?alt=sse");
            (path, json!({"contents": [content]}))
        }
    }
}

async fn stream(lm: &ScriptedLm, dialect: &str, model: &str) -> String {
    let (path, body) = request(dialect, model);
    let url = format!("{}{path}", lm.base_url());
    let call = reqwest::Client::new().post(url).json(&body);
    let answer = call.send().await.expect("an answer comes");
    answer.text().await.expect("it is whole")
}

/// The JSON of a stream's events, without what is none.
fn data(stream: &str) -> Vec<Value> {
    let lines = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    lines
        .filter_map(|data| serde_json::from_str(data).ok())
        .collect()
}

/// The texts at this path, one for each event that has one.
fn texts(stream: &str, path: &str) -> Vec<String> {
    let data = data(stream);
    let texts = data
        .iter()
        .filter_map(|event| event.pointer(path)?.as_str());
    texts.map(str::to_owned).collect()
}

const OPENAI: &str = "/choices/0/delta/content";
const ANTHROPIC: &str = "/delta/text";
const GEMINI: &str = "/candidates/0/content/parts/0/text";
const DIALECTS: [(&str, &str); 3] = [
    ("openai", OPENAI),
    ("anthropic", ANTHROPIC),
    ("gemini", GEMINI),
];

#[tokio::test]
async fn the_text_of_a_stream_is_cut_as_the_script_says() {
    let lm = shared().await;
    lm.script("cut-pieces", Reply::pieces(["[[ ", "", "## ç", "\n"]));
    lm.script("cut-chars", Reply::content("aç😀").split_every(1));
    lm.script("cut-none", Reply::content("a b c").in_one_piece());
    for (dialect, path) in DIALECTS {
        for (model, pieces) in [
            ("cut-pieces", &["[[ ", "", "## ç", "\n"][..]),
            ("cut-chars", &["a", "ç", "😀"]),
            ("cut-none", &["a b c"]),
        ] {
            let mut seen = texts(&stream(lm, dialect, model).await, path);
            // OpenAI's role and Gemini's end come with an empty text.
            match dialect {
                "openai" => drop(seen.remove(0)),
                "gemini" => drop(seen.pop()),
                _ => {}
            }
            assert_eq!(seen, pieces, "{dialect}");
        }
    }
    assert_eq!(answer(lm, "cut-pieces").await, "[[ ## ç\n");
    let seen = lm.wait_for("cut-pieces", answered).await.expect(SEEN);
    assert!(seen.iter().all(|record| record.tokens == 4));
}

#[tokio::test]
async fn pings_comments_and_empty_deltas_come_where_the_script_says() {
    let lm = shared().await;
    let reply = Reply::content("a b")
        .pings_after(0, 2, Duration::ZERO)
        .comments_after(1, 1, MS)
        .empty_deltas_after(1, 2, MS)
        .pings_after(2, 1, MS)
        .pings_after(9, 1, MS);
    lm.script("pings", reply);
    for (dialect, path) in DIALECTS {
        let text = stream(lm, dialect, "pings").await;
        let (ping, pings) = match dialect {
            "anthropic" => ("event: ping\ndata: {\"type\":\"ping\"}\n\n", 3),
            _ => (": ping\n\n", 3),
        };
        assert_eq!(text.matches(ping).count(), pings, "{text}");
        let (before, after) = text.split_once(": keep-alive\n\n").expect("a comment");
        let filled = |text: &str| {
            let texts = texts(text, path).into_iter();
            texts.filter(|text| !text.is_empty()).collect::<Vec<_>>()
        };
        assert_eq!(
            (filled(before), filled(after)),
            (vec!["a".into()], vec![" b".into()])
        );
        assert_eq!(before.matches(ping).count(), 2, "{text}");
        let [empty, other, ..] = &texts(after, path)[..] else {
            panic!("too few events: {after}");
        };
        assert_eq!((&**empty, &**other), ("", ""), "{after}");
    }
}

#[tokio::test]
async fn thinking_comes_before_the_text_in_the_form_of_each_dialect() {
    let lm = shared().await;
    let reply = Reply::content("a b").thinking(["dropped"]);
    lm.script("thinks", reply.thinking(["let me", " see"]));
    for (dialect, thinking, path) in [
        ("openai", "/choices/0/delta/reasoning_content", OPENAI),
        ("anthropic", "/delta/thinking", ANTHROPIC),
        ("gemini", GEMINI, "/none"),
    ] {
        let text = stream(lm, dialect, "thinks").await;
        let thought = texts(&text, thinking);
        assert_eq!(thought[..2], ["let me", " see"], "{text}");
        if dialect == "gemini" {
            assert_eq!(thought[2..], ["a", " b", ""], "{text}");
            let flag = "/candidates/0/content/parts/0/thought";
            let flags: Vec<_> = data(&text)
                .iter()
                .map(|e| e.pointer(flag).is_some())
                .collect();
            assert_eq!(flags, [true, true, false, false, false]);
        } else {
            assert_eq!(texts(&text, path).concat(), "a b", "{text}");
        }
    }
    // Anthropic's blocks are numbered, and each is stopped.
    let events = data(&stream(lm, "anthropic", "thinks").await);
    let blocks = |kind: &str| -> Vec<_> {
        let events = events.iter().filter(|event| event["type"] == kind);
        events.map(|event| event["index"].as_u64()).collect()
    };
    for kind in ["content_block_start", "content_block_stop"] {
        assert_eq!(blocks(kind), [Some(0), Some(1)]);
    }
    assert_eq!(
        blocks("content_block_delta"),
        [Some(0), Some(0), Some(0), Some(1), Some(1)]
    );
}

#[tokio::test]
async fn a_whole_answer_has_the_thinking_and_no_pings() {
    let lm = shared().await;
    let reply = Reply::content("a").thinking(["so"]).pings_after(0, 1, HOUR);
    lm.script("thinks-whole", reply.error_after(0, 500));
    let ask = async |path: &str, body: &Value| -> Value {
        let url = format!("{}{path}", lm.base_url());
        let answer = reqwest::Client::new().post(url).json(body).send().await;
        answer.expect("an answer").json().await.expect("it is JSON")
    };
    let openai = ask("/chat/completions", &chat("thinks-whole")).await;
    let message = &openai["choices"][0]["message"];
    assert_eq!(
        (&message["reasoning_content"], &message["content"]),
        (&json!("so"), &json!("a"))
    );
    let anthropic = ask("/messages", &chat("thinks-whole")).await;
    assert_eq!(anthropic["content"][0]["thinking"], "so");
    assert_eq!(anthropic["content"][1]["text"], "a");
    let (_, body) = request("gemini", "");
    let gemini = ask("/models/thinks-whole:generateContent", &body).await;
    let parts = json!([{"text": "so", "thought": true}, {"text": "a"}]);
    assert_eq!(gemini["candidates"][0]["content"]["parts"], parts);
}

#[tokio::test]
async fn an_error_in_mid_stream_has_the_dialects_form_and_ends_the_stream() {
    let lm = shared().await;
    lm.script("mid-error", Reply::content("a b c").error_after(2, 529));
    for (dialect, path) in DIALECTS {
        let text = stream(lm, dialect, "mid-error").await;
        assert_eq!(texts(&text, path).concat(), "a b", "{text}");
        let last = data(&text).pop().expect("an event");
        assert_eq!(last["error"]["message"], "the script says so", "{text}");
        assert!(!text.contains("[DONE]"), "{text}");
        let named = text.contains("event: error\ndata: ");
        assert_eq!(named, dialect == "anthropic", "{text}");
    }
    let seen = lm.wait_for("mid-error", answered).await.expect(SEEN);
    assert!(seen.iter().all(|record| record.tokens == 2));
}

#[tokio::test]
async fn a_garbage_event_does_not_end_a_stream() {
    let lm = shared().await;
    lm.script("mid-garbage", Reply::content("a b").garbage_after(1));
    let text = stream(lm, "openai", "mid-garbage").await;
    let (before, after) = text.split_once("data: <html>").expect("garbage");
    assert!(
        before.contains("\"a\"") && after.contains("\" b\""),
        "{text}"
    );
    assert!(after.ends_with("[DONE]\n\n"), "{text}");
}

#[tokio::test]
async fn a_stalled_reply_sends_nothing_more_until_the_client_is_gone() {
    let lm = shared().await;
    for (model, body) in [
        ("stalls-stream", streamed("stalls-stream")),
        ("stalls-whole", chat("stalls-whole")),
    ] {
        lm.script(model, Reply::content("a b c").stall_after(2));
        let tcp = raw(lm, &body).await;
        lm.wait_for(model, running(2)).await.expect(SEEN);
        drop(tcp);
        lm.wait_for(model, gone).await.expect(SEEN);
    }
}
