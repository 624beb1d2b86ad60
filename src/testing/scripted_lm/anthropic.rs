//! Anthropic's messages: plain JSON and server-sent events.

use bytes::Bytes;
use serde_json::{Value, json};

use super::completion::{self, Completion};

/// What stands for the signature of thinking, which only the real API could check.
const SIGNATURE: &str = "scripted";

pub(super) fn whole(answer: &Completion) -> Value {
    let mut content = vec![json!({"type": "text", "text": answer.text})];
    if !answer.thoughts.is_empty() {
        let thinking = answer.thoughts.concat();
        let block = json!({"type": "thinking", "thinking": thinking, "signature": SIGNATURE});
        content.insert(0, block);
    }
    json!({
        "id": answer.id,
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": "end_turn",
        "stop_sequence": null,
        "usage": usage(answer, output_tokens(answer)),
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
        "usage": usage(answer, 0),
    });
    let start = event(json!({"type": "message_start", "message": message}));
    let block = match answer.thoughts.is_empty() {
        true => json!({"type": "text", "text": ""}),
        false => json!({"type": "thinking", "thinking": "", "signature": ""}),
    };
    (start + &block_start(0, block)).into()
}

pub(super) fn token(answer: &Completion, token: &str) -> Bytes {
    let delta = json!({"type": "text_delta", "text": token});
    block_delta(text_block(answer), delta).into()
}

pub(super) fn thought(delta: &str) -> Bytes {
    block_delta(0, json!({"type": "thinking_delta", "thinking": delta})).into()
}

/// The events that end the thinking and begin the text.
pub(super) fn thought_out(answer: &Completion) -> Bytes {
    let signature = json!({"type": "signature_delta", "signature": SIGNATURE});
    let stop = event(json!({"type": "content_block_stop", "index": 0}));
    let text = block_start(text_block(answer), json!({"type": "text", "text": ""}));
    (block_delta(0, signature) + &stop + &text).into()
}

pub(super) fn ping() -> Bytes {
    event(json!({"type": "ping"})).into()
}

/// The index of the text, after that of the thinking.
fn text_block(answer: &Completion) -> usize {
    usize::from(!answer.thoughts.is_empty())
}

fn block_start(index: usize, block: Value) -> String {
    event(json!({"type": "content_block_start", "index": index, "content_block": block}))
}

fn block_delta(index: usize, delta: Value) -> String {
    event(json!({"type": "content_block_delta", "index": index, "delta": delta}))
}

pub(super) fn closing(answer: &Completion) -> Bytes {
    let delta = json!({
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": null},
        "usage": usage(answer, output_tokens(answer)),
    });
    let events = [
        json!({"type": "content_block_stop", "index": text_block(answer)}),
        delta,
        json!({"type": "message_stop"}),
    ];
    events.map(event).concat().into()
}

fn output_tokens(answer: &Completion) -> usize {
    answer.tokens().len() + answer.reasoning_tokens
}

/// Cached tokens are not among the input tokens.
fn usage(answer: &Completion, output_tokens: usize) -> Value {
    let mut usage = json!({"input_tokens": answer.prompt_tokens, "output_tokens": output_tokens});
    if answer.cached_tokens > 0 {
        usage["cache_read_input_tokens"] = answer.cached_tokens.into();
    }
    if answer.reasoning_tokens > 0 && output_tokens > 0 {
        usage["output_tokens_details"] = json!({"thinking_tokens": answer.reasoning_tokens});
    }
    usage
}

/// An event has its type as its name too.
pub(super) fn event(data: Value) -> String {
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
