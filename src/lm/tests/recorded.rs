//! What the record of an LM call has of the answer, in each dialect.

use std::sync::Mutex;

use serde_json::Value;

use super::*;
use crate::{
    call::{
        Cause, Cost, LmCall, Price, Usage, Usd,
        record::{AttemptRecord, CallRecord, LateAnswer, Totals},
    },
    testing::scripted_lm::{Reply, ScriptedLm},
};

/// A request in a dialect, by its path and its header of the key.
fn request(base: &str, (path, key, body): (String, &str, Value)) -> LmRequest {
    ::http::Request::post(format!("{base}{path}"))
        .header("content-type", "application/json")
        .header(key, PLACEHOLDER)
        .body(body.to_string().into())
        .expect("a request")
}

fn dialects(model: &str, stream: bool) -> [(String, &'static str, Value); 2] {
    let messages = json!([{"role": "user", "content": "ping"}]);
    let anthropic = json!({"model": model, "messages": messages, "stream": stream});
    let method = match stream {
        true => "streamGenerateContent?alt=sse",
        false => "generateContent",
    };
    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "ping"}]}]});
    [
        ("/messages".into(), "x-api-key", anthropic),
        (
            format!("/models/{model}:{method}"),
            "x-goog-api-key",
            gemini,
        ),
    ]
}

async fn recorded(lm: &Lm, request: LmRequest) -> LmCall {
    let (request, log) = with_log(request);
    let answer = connect(lm).send(request).await.expect("an answer");
    text(answer.into_body()).await.expect("a body");
    let mut calls = log.calls();
    let usage = log.usage();
    let call = calls.pop().expect("a call");
    assert_eq!(usage, call.usage());
    call
}

#[tokio::test]
async fn the_labels_and_the_tokens_of_an_answer_are_recorded_in_each_dialect() {
    let server = ScriptedLm::start().await.expect("a server");
    let lm = lm_at(server.base_url());
    for stream in [false, true] {
        let model = format!("recorded-{stream}");
        let reply = Reply::content("one two three")
            .cached_tokens(100)
            .reasoning_tokens(7)
            .request_id("req-1");
        server.script(&model, reply);
        let openai = super::request(server.base_url(), &model, stream);
        let others = dialects(&model, stream).map(|dialect| request(server.base_url(), dialect));
        for (request, finish) in [openai]
            .into_iter()
            .chain(others)
            .zip(["stop", "end_turn", "STOP"])
        {
            let call = recorded(&lm, request).await;
            let tokens = [
                call.prompt_tokens,
                call.completion_tokens,
                call.total_tokens,
                call.cached_tokens,
                call.reasoning_tokens,
            ];
            assert_eq!(tokens, [101, 10, 111, 100, 7].map(Some), "{call:?}");
            assert_eq!(call.response_model.as_deref(), Some(&*model));
            let id = call.response_id.as_deref().expect("an id");
            assert!(id.starts_with("scripted-"), "{id}");
            assert_eq!(call.finish_reason.as_deref(), Some(finish));
            assert_eq!(call.request_id.as_deref(), Some("req-1"));
            assert_eq!(call.is_stream, stream);
            assert!(call.chunks >= 1 && call.last_content >= call.first_content);
            assert!(call.first_byte <= call.first_content && call.first_byte.is_some());
        }
    }
}

#[tokio::test]
async fn the_chunks_of_an_answer_are_counted_from_the_first_with_content() {
    let (lm, _) = lm(|_, _| async {
        let pieces = [
            ": ping\n\n",
            "data: {}\n\n",
            "data: a\n\n",
            "data: b\n\n",
            ": ping\n\n",
        ];
        let frames = pieces.map(|piece| Ok::<_, BoxError>(Frame::data(Bytes::from(piece))));
        let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
        let answer = Response::builder().header("content-type", "text/event-stream");
        Ok::<_, BoxError>(answer.body(body)?)
    });
    let call = recorded(&lm, super::request(URL, "m", true)).await;
    assert_eq!((call.chunks, call.is_stream), (3, true));
}

#[tokio::test]
async fn a_hostile_id_is_bounded_or_dropped() {
    let long = "x".repeat(1000);
    let ids = [&*long, "", "ä", "a b"];
    let kept = ids.map(|id| {
        let id = ::http::HeaderValue::from_bytes(id.as_bytes()).expect("a value");
        let (lm, _) = lm(move |_, _| {
            let id = id.clone();
            async move {
                let answer = Response::builder().header("x-request-id", id);
                Ok::<_, BoxError>(answer.body(LmBody::new(String::from("{}")))?)
            }
        });
        async move {
            recorded(&lm, super::request(URL, "m", false))
                .await
                .request_id
        }
    });
    let mut found = Vec::new();
    for id in kept {
        found.push(id.await.map(|id| id.to_string()));
    }
    let expected = [
        Some("x".repeat(LmCall::TEXT)),
        None,
        None,
        Some("a b".into()),
    ];
    assert_eq!(found, expected);
}

/// The tokens and the cost of late answers.
#[derive(Default)]
struct LateTokens(Mutex<Vec<(u64, Usd)>>);

impl Totals for LateTokens {
    fn lm_call_begun(&self, _: &LmCall) {}

    fn lm_call_ended(&self, _: &LmCall) {}

    fn counted_by_dspy(&self, _: &LmCall, _: Usage, _: Cost) {}

    fn answered_too_late(&self, late: LateAnswer<'_>) {
        self.0
            .lock()
            .expect("no panic")
            .push((late.tokens, late.usd));
    }

    fn abort_ended(&self, _: (&str, &str), _: bool) {}
}

#[tokio::test]
async fn tokens_that_were_counted_when_the_attempt_closed_are_not_counted_as_late() {
    let (lm, _) = lm(|_, _| async {
        let pieces = [
            "data: {\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n",
            "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":15}}\n\n",
        ];
        let frames = pieces.map(|piece| Ok::<_, BoxError>(Frame::data(Bytes::from(piece))));
        let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
        let answer = Response::builder().header("content-type", "text/event-stream");
        Ok::<_, BoxError>(answer.body(body)?)
    });
    let lm = lm.price(Price::per_million(1.0, 4.0));
    for (frames_before, wasted, late) in [(0, 0, 40), (1, 26, 14), (2, 40, 0)] {
        let totals = Arc::new(LateTokens::default());
        let attempt = AttemptRecord::new(CallRecord::open(), 0, Some(totals.clone()));
        let mut request = super::request(URL, "m", true);
        request.extensions_mut().insert(LmLog(attempt.clone()));
        let mut body = connect(&lm)
            .send(request)
            .await
            .expect("an answer")
            .into_body();
        for _ in 0..frames_before {
            body.frame().await.expect("a frame").expect("no failure");
        }
        let closed = attempt
            .close(Err(Some(Cause::Elapsed)))
            .expect("it is open");
        text(body).await.expect("the rest");
        let found = (closed.tokens, totals.0.lock().expect("no panic").clone());
        let (tokens, usd) = found.1[0];
        assert_eq!((found.0, found.1.len(), tokens), (wasted, 1, late));
        // The whole cost is in the record or late, and not in both.
        let recorded = attempt.record().read(|spent| spent.cost);
        let whole = Usd::new(85e-6);
        let known = recorded.usd + recorded.estimated_usd;
        assert_eq!(usd, whole.saturating_sub(known), "{recorded:?}");
        assert!(known > Usd::ZERO);
    }
}
