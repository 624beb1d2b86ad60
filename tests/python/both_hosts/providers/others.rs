//! A server of the dialects that the scripted LM does not speak: Bedrock's Converse and Cohere's
//! chat. How it answers is the end of the model's name.

use std::{
    collections::HashSet,
    convert::Infallible,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::Response,
};
use flate2::Crc;
use futures_util::stream;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The answer of all models.
const TEXT: [&str; 2] = ["[[ ## answer ## ]]\nyes", "\n\n[[ ## completed ## ]]"];

/// What has happened to the models that never answer: `asked`, then `gone` with their client.
#[derive(Clone, Debug, Default)]
pub(super) struct Hung(Arc<Mutex<HashSet<(String, &'static str)>>>);

impl Hung {
    pub(super) fn is(&self, model: &str, what: &'static str) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.contains(&(model.to_owned(), what))
    }

    fn note(&self, model: &str, what: &'static str) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert((model.to_owned(), what));
    }
}

/// A request that never gets an answer; when it is dropped, its client is gone.
struct Hanging(String, Hung);

impl Drop for Hanging {
    fn drop(&mut self) {
        self.1.note(&self.0, "gone");
    }
}

/// The URL of the server, and what has happened to its requests.
pub(super) async fn start() -> (String, Hung) {
    let hung = Hung::default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let router = Router::new().fallback(answer).with_state(hung.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, hung)
}

async fn answer(State(hung): State<Hung>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let path = percent_decode_str(head.uri.path()).decode_utf8_lossy();
    let converse = path
        .strip_prefix("/model/")
        .and_then(|rest| rest.split_once('/'));
    let model = match converse {
        Some((model, _)) => model.to_owned(),
        None => asked["model"].as_str().unwrap_or_default().to_owned(),
    };
    if model.ends_with("cancel") {
        hung.note(&model, "asked");
        let _hanging = Hanging(model, hung);
        return std::future::pending().await;
    }
    let is_converse = converse.is_some();
    let status = if model.ends_with("error") { 503 } else { 200 };
    let streams = asked["stream"] == true || path.ends_with("converse-stream");
    let (content_type, parts) = match (status, is_converse, streams) {
        (503, ..) => (
            "application/json",
            vec![json!({"message": "busy"}).to_string().into()],
        ),
        (_, true, true) => ("application/vnd.amazon.eventstream", converse_events()),
        (_, false, true) => ("application/stream+json", cohere_events()),
        (_, true, false) => (
            "application/json",
            vec![converse_answer().to_string().into()],
        ),
        (_, false, false) => ("application/json", vec![cohere_answer().to_string().into()]),
    };
    let parts = parts.into_iter().map(Ok::<Vec<u8>, Infallible>);
    Response::builder()
        .status(status)
        .header("content-type", content_type)
        .body(Body::from_stream(stream::iter(parts)))
        .expect("a response")
}

fn converse_answer() -> Value {
    json!({
        "output": {"message": {"role": "assistant", "content": [{"text": TEXT.concat()}]}},
        "stopReason": "end_turn", "metrics": {"latencyMs": 1},
        "usage": {"inputTokens": 3, "outputTokens": 5, "totalTokens": 8},
    })
}

fn converse_events() -> Vec<Vec<u8>> {
    let delta = |text: &str| json!({"contentBlockIndex": 0, "delta": {"text": text}});
    vec![
        event("messageStart", &json!({"role": "assistant"})),
        event("contentBlockDelta", &delta(TEXT[0])),
        event("contentBlockDelta", &delta(TEXT[1])),
        event("contentBlockStop", &json!({"contentBlockIndex": 0})),
        event("messageStop", &json!({"stopReason": "end_turn"})),
        event(
            "metadata",
            &json!({
                "metrics": {"latencyMs": 1},
                "usage": {"inputTokens": 3, "outputTokens": 5, "totalTokens": 8},
            }),
        ),
    ]
}

/// A message of AWS's event stream encoding.
fn event(kind: &str, payload: &Value) -> Vec<u8> {
    let mut headers = Vec::new();
    for (name, value) in [
        (":event-type", kind),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ] {
        headers.push(u8::try_from(name.len()).expect("a short name"));
        headers.extend(name.as_bytes());
        // A string.
        headers.push(7);
        headers.extend(
            u16::try_from(value.len())
                .expect("a short value")
                .to_be_bytes(),
        );
        headers.extend(value.as_bytes());
    }
    let payload = payload.to_string();
    let length = |bytes: usize| u32::try_from(bytes).expect("a short message").to_be_bytes();
    let mut message = Vec::new();
    message.extend(length(16 + headers.len() + payload.len()));
    message.extend(length(headers.len()));
    message.extend(checksum(&message));
    message.extend(headers);
    message.extend(payload.as_bytes());
    message.extend(checksum(&message));
    message
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum().to_be_bytes()
}

fn cohere_answer() -> Value {
    json!({
        "id": "c", "finish_reason": "COMPLETE",
        "message": {"role": "assistant", "content": [{"type": "text", "text": TEXT.concat()}]},
        "usage": {"tokens": {"input_tokens": 3, "output_tokens": 5}},
    })
}

/// Lines of JSON, as litellm reads them.
fn cohere_events() -> Vec<Vec<u8>> {
    let delta = |text: &str| {
        json!({
            "type": "content-delta", "index": 0,
            "delta": {"message": {"content": {"text": text}}},
        })
    };
    let events = [
        json!({"type": "message-start", "id": "c", "delta": {"message": {"role": "assistant"}}}),
        delta(TEXT[0]),
        delta(TEXT[1]),
        json!({
            "event": "message-end",
            "data": {
                "delta": {
                    "finish_reason": "COMPLETE",
                    "usage": {"tokens": {"input_tokens": 3, "output_tokens": 5}},
                },
            },
        }),
    ];
    let lines = events.iter().map(|event| format!("{event}\n").into_bytes());
    lines.collect()
}
