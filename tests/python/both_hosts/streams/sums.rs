//! The deltas of a field add up to the field, however the LM cuts its answer.

use futures_util::future::join_all;
use http_body_util::Full;
use serde_json::json;
use tower::{BoxError, ServiceExt, service_fn};
use tower_dspy::{
    Lm, PredictRequest,
    lm::{LmBody, LmRequest},
    testing::scripted_lm::{Gate, Reply},
};

use super::reading::{Reading, read};
use crate::support::{ask, host, lm_server, load, question};

const ANSWER: &str = "[[ ## answer ## ]]\nfour [[it]] is\n\n[[ ## completed ## ]]";

/// Texts that look like parts of the adapters' formats.
const TEXT: &str = "a [[b]] \"c\" \\ {d} <e>f</e> ü😀\n\n## g ## ]]\nlast [[ ## line";

/// The answer `text` and a count, as an adapter has the LM write them.
fn formatted(adapter: &str, text: &str) -> String {
    match adapter {
        "ChatAdapter" => {
            format!("[[ ## answer ## ]]\n{text}\n\n[[ ## count ## ]]\n7\n\n[[ ## completed ## ]]")
        }
        "JSONAdapter" => json!({"answer": text, "count": 7}).to_string(),
        "XMLAdapter" => format!("<answer>{text}</answer>\n<count>7</count>"),
        _ => panic!("{adapter}"),
    }
}

#[tokio::test]
async fn the_deltas_add_up_to_the_field_and_the_answer_comes_last() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("stream-sum", Reply::content(ANSWER));
    let qa = question(&host, "stream-sum").await.streaming();
    let read = read(qa.oneshot(ask("2 + 2?")).await.unwrap()).await;
    assert_eq!(read.text(1, "answer"), "four [[it]] is");
    assert_eq!(read.answer(), "four [[it]] is");
    let usage = read.prediction().usage;
    assert!(usage.total_tokens > 0, "{usage:?}");
    assert!(read.replaced.is_empty() && read.restarts.is_empty());
    assert_eq!(read.predictors[&1], "self");
    let requests = lm.requests("stream-sum");
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].body["stream"], json!(true));
}

#[tokio::test]
async fn the_deltas_add_up_for_each_adapter_and_each_cut() {
    let (host, lm) = (host().await, lm_server().await);
    let cuts = [
        ("words", None),
        ("characters", Some(1)),
        ("threes", Some(3)),
        ("whole", Some(10_000)),
    ];
    let adapters = ["ChatAdapter", "JSONAdapter", "XMLAdapter"];
    let all = adapters
        .iter()
        .flat_map(|adapter| cuts.map(|cut| (*adapter, cut)));
    join_all(all.map(async |(adapter, (cut, chars))| {
        let model = format!("stream-cut-{adapter}-{cut}");
        let mut reply = Reply::content(formatted(adapter, TEXT));
        if let Some(chars) = chars {
            reply = reply.split_every(chars);
        }
        lm.script(&model, reply);
        let program = load(&host, "streams:InFormat", &model).await.streaming();
        let request = PredictRequest::new(json!({"question": "?", "adapter": adapter}));
        let read = read(program.oneshot(request).await.unwrap()).await;
        assert_eq!(read.answer(), TEXT, "{model}");
        assert_eq!(read.text(1, "answer"), TEXT, "{model}");
        assert!(read.replaced.is_empty(), "{model}: {:?}", read.replaced);
        assert_eq!(read.texts.len(), 1, "{model}: {:?}", read.texts);
        assert_eq!(lm.requests(&model).len(), 1);
    }))
    .await;
}

fn of_provider(name: &str, model: &str, base_url: &str) -> Lm {
    Lm::new(format!("{name}/{model}"))
        .base_url(base_url)
        .key("test-key")
}

/// In the dialect of a provider, in words or in one piece, with thinking before it.
async fn in_dialect(provider: &str, whole: bool) -> Reading {
    let (host, server) = (host().await, lm_server().await);
    let model = format!("stream-{provider}-{whole}");
    let mut reply = Reply::content(ANSWER).thinking(["let me", " see"]);
    if whole {
        reply = reply.in_one_piece();
    }
    let reply = reply.pings_after(1, 2, Default::default());
    server.script(&model, reply.empty_deltas_after(1, 2, Default::default()));
    let lm = of_provider(provider, &model, server.base_url());
    let qa = host.load("question -> answer").lm(lm).await.unwrap();
    read(qa.streaming().oneshot(ask("?")).await.unwrap()).await
}

#[tokio::test]
async fn each_dialect_streams_text_and_thinking() {
    let all = ["openai", "anthropic", "gemini"].map(|name| [(name, false), (name, true)]);
    join_all(all.concat().into_iter().map(async |(provider, whole)| {
        let read = in_dialect(provider, whole).await;
        assert_eq!(read.answer(), "four [[it]] is", "{provider}");
        assert_eq!(read.text(1, "answer"), "four [[it]] is", "{provider}");
        assert_eq!(read.thinking, "let me see", "{provider}");
        assert!(read.replaced.is_empty(), "{provider}: {:?}", read.replaced);
        assert!(read.prediction().usage.total_tokens > 0, "{provider}");
    }))
    .await;
}

#[tokio::test]
async fn thinking_is_an_event_before_any_text() {
    let (host, server) = (host().await, lm_server().await);
    let gate = Gate::new();
    let reply = Reply::content(ANSWER)
        .thinking(["hm"])
        .pause_after(1, &gate);
    server.script("stream-thinks", reply);
    let qa = question(&host, "stream-thinks").await.streaming();
    let mut stream = qa.oneshot(ask("?")).await.unwrap();
    let mut read = Reading::default();
    assert!(read.next(&mut stream).await);
    assert_eq!((&*read.thinking, read.texts.len()), ("hm", 0));
    gate.open();
    let read = read.rest(stream).await;
    assert_eq!(read.text(1, "answer"), "four [[it]] is");
}

#[tokio::test]
async fn a_field_that_holds_the_marker_of_no_field_keeps_it() {
    let (host, server) = (host().await, lm_server().await);
    let text = "one\n[[ ## other ## ]]\ntwo";
    let reply = Reply::content(formatted("ChatAdapter", text)).split_every(2);
    server.script("stream-marker", reply);
    let program = load(&host, "streams:InFormat", "stream-marker").await;
    let request = PredictRequest::new(json!({"question": "?", "adapter": "ChatAdapter"}));
    let read = read(program.streaming().oneshot(request).await.unwrap()).await;
    // What DSPy makes of it, the reader has.
    assert_eq!(read.answer(), read.text(1, "answer"));
}

#[tokio::test]
async fn the_text_of_an_adapter_that_is_not_known_is_raw() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("stream-raw", Reply::content("as it stands"));
    let program = load(&host, "streams:OwnAdapter", "stream-raw").await;
    let read = read(program.streaming().oneshot(ask("?")).await.unwrap()).await;
    assert_eq!(read.text(1, ""), "as it stands");
    assert_eq!(read.answer(), "AS IT STANDS");
}

#[tokio::test]
async fn of_an_adapter_with_two_lm_calls_the_one_with_the_fields_is_streamed() {
    let (host, lm) = (host().await, lm_server().await);
    let replies = [
        Reply::content("It is four, of course."),
        Reply::content(ANSWER),
    ];
    lm.script("stream-two-steps", replies);
    let program = load(&host, "streams:TwoSteps", "stream-two-steps").await;
    let read = read(program.streaming().oneshot(ask("?")).await.unwrap()).await;
    assert_eq!(read.answer(), "four [[it]] is");
    assert_eq!(read.text(1, "answer"), "four [[it]] is");
    let requests = lm.requests("stream-two-steps");
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].body["stream"], json!(true));
}

/// A streamed answer of OpenAI's with these deltas, each as JSON.
fn of_deltas(deltas: &[&str]) -> String {
    let event = |delta: &str| {
        format!(
            r#"data: {{"id":"x","object":"chat.completion.chunk","created":0,"model":"x","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#
        )
    };
    let mut events: Vec<_> = deltas
        .iter()
        .map(|delta| event(&format!(r#"{{"content":"{delta}"}}"#)))
        .collect();
    events.push(event("{}").replace(":null}", r#":"stop"}"#));
    events.push("data: [DONE]".to_owned());
    events.join("\n\n") + "\n\n"
}

#[tokio::test]
async fn what_no_text_of_rust_can_hold_is_the_same_in_the_deltas_and_the_answer() {
    let host = host().await;
    for deltas in [
        [r"[[ ## answer ## ]]\n", r"\ud83d", r"\ude00", "!"],
        [r"[[ ## answer ## ]]\n", r"\ud83d", "alone", r"\u0000"],
    ] {
        let events = of_deltas(&deltas);
        let lm = Lm::new("openai/x").base_url("http://lm/v1").key("test-key");
        let lm = lm.http(service_fn(move |_: LmRequest| {
            let events = events.clone();
            async move {
                let answer = http::Response::builder().header("content-type", "text/event-stream");
                Ok::<_, BoxError>(answer.body(LmBody::new(Full::from(events)))?)
            }
        }));
        for target in ["question -> answer", "shapes:SyncOnly"] {
            let program = host.load(target).lm(lm.clone()).await.unwrap();
            let read = read(program.streaming().oneshot(ask("?")).await.unwrap()).await;
            assert_eq!(read.answer(), read.text(1, "answer"), "{read:?}");
        }
    }
}
