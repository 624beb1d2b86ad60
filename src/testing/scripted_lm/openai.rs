//! OpenAI's chat completions: plain JSON and server-sent events.

use bytes::Bytes;
use serde_json::{Value, json};

use super::completion::{self, Completion};

pub(super) fn whole(answer: &Completion) -> Value {
    json!({
        "id": answer.id,
        "object": "chat.completion",
        "created": 0,
        "model": answer.model,
        "choices": [{"index": 0, "message": message(answer), "finish_reason": "stop"}],
        "usage": usage(answer),
    })
}

fn message(answer: &Completion) -> Value {
    let mut message = json!({"role": "assistant", "content": answer.text});
    if !answer.thoughts.is_empty() {
        message["reasoning_content"] = answer.thoughts.concat().into();
    }
    message
}

fn usage(answer: &Completion) -> Value {
    let prompt_tokens = answer.prompt_tokens + answer.cached_tokens;
    let completion_tokens = answer.tokens().len() + answer.reasoning_tokens;
    let mut usage = json!({
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    });
    if answer.cached_tokens > 0 {
        usage["prompt_tokens_details"] = json!({"cached_tokens": answer.cached_tokens});
    }
    if answer.reasoning_tokens > 0 {
        usage["completion_tokens_details"] = json!({"reasoning_tokens": answer.reasoning_tokens});
    }
    usage
}

pub(super) fn opening(answer: &Completion) -> Bytes {
    event(answer, json!({"role": "assistant", "content": ""}), None).into()
}

pub(super) fn token(answer: &Completion, token: &str) -> Bytes {
    event(answer, json!({"content": token}), None).into()
}

pub(super) fn thought(answer: &Completion, delta: &str) -> Bytes {
    event(answer, json!({"reasoning_content": delta}), None).into()
}

pub(super) fn closing(answer: &Completion) -> Bytes {
    let mut events = event(answer, json!({}), Some("stop"));
    if answer.wants_usage {
        events += &chunk(answer, json!([]), usage(answer));
    }
    events += "data: [DONE]\n\n";
    events.into()
}

fn event(answer: &Completion, delta: Value, finish_reason: Option<&str>) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish_reason});
    chunk(answer, json!([choice]), Value::Null)
}

fn chunk(answer: &Completion, choices: Value, usage: Value) -> String {
    let mut chunk = json!({
        "id": answer.id,
        "object": "chat.completion.chunk",
        "created": 0,
        "model": answer.model,
        "choices": choices,
    });
    // As the real API does: every chunk has the field once usage is asked for.
    if answer.wants_usage {
        chunk["usage"] = usage;
    }
    completion::event(&chunk)
}

pub(super) fn error(message: &str, code: u16) -> Value {
    let kind = match code {
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    json!({"error": {
        "message": message, "type": kind, "param": null, "code": code.to_string(),
    }})
}
