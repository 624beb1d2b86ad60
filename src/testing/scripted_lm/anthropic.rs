//! Anthropic's messages: plain JSON and server-sent events.

use bytes::Bytes;
use serde_json::{Value, json};

use super::completion::{self, Completion};

pub(super) fn whole(answer: &Completion) -> Value {
    json!({
        "id": answer.id,
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [{"type": "text", "text": answer.text}],
        "stop_reason": "end_turn",
        "stop_sequence": null,
        "usage": usage(answer),
    })
}

pub(super) fn opening(answer: &Completion) -> Bytes {
    let message = json!({
        "id": answer.id,
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [],
        "stop_reason": null,
        "usage": {"input_tokens": answer.prompt_tokens, "output_tokens": 0},
    });
    let block = json!({"type": "text", "text": ""});
    let start = json!({"type": "content_block_start", "index": 0, "content_block": block});
    (event(json!({"type": "message_start", "message": message})) + &event(start)).into()
}

pub(super) fn token(token: &str) -> Bytes {
    let delta = json!({"type": "text_delta", "text": token});
    event(json!({"type": "content_block_delta", "index": 0, "delta": delta})).into()
}

pub(super) fn closing(answer: &Completion) -> Bytes {
    let delta = json!({
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": null},
        "usage": usage(answer),
    });
    let events = [
        json!({"type": "content_block_stop", "index": 0}),
        delta,
        json!({"type": "message_stop"}),
    ];
    events.map(event).concat().into()
}

fn usage(answer: &Completion) -> Value {
    let output_tokens = answer.tokens().len();
    json!({"input_tokens": answer.prompt_tokens, "output_tokens": output_tokens})
}

/// An event has its type as its name too.
fn event(data: Value) -> String {
    let name = data["type"].as_str().unwrap_or_default();
    format!("event: {name}\n{}", completion::event(&data))
}

pub(super) fn error(message: &str, code: u16) -> Value {
    let kind = match code {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": message}})
}
