//! Gemini's `generateContent`: plain JSON, and server-sent events that are each an answer in part.

use bytes::Bytes;
use serde_json::{Value, json};

use super::completion::{self, Completion};

pub(super) fn whole(answer: &Completion) -> Value {
    let mut whole = last(answer, &answer.text);
    if !answer.thoughts.is_empty() {
        let thought = json!({"text": answer.thoughts.concat(), "thought": true});
        let parts = json!([thought, {"text": answer.text}]);
        whole["candidates"][0]["content"]["parts"] = parts;
    }
    whole
}

pub(super) fn token(answer: &Completion, token: &str) -> Bytes {
    let part = part(answer, json!({"content": content(token)}));
    completion::event(&part).into()
}

pub(super) fn thought(answer: &Completion, delta: &str) -> Bytes {
    let thought = json!({"text": delta, "thought": true});
    let content = json!({"role": "model", "parts": [thought]});
    completion::event(&part(answer, json!({"content": content}))).into()
}

pub(super) fn closing(answer: &Completion) -> Bytes {
    completion::event(&last(answer, "")).into()
}

/// The part of an answer that ends it.
fn last(answer: &Completion, text: &str) -> Value {
    let candidate = json!({"content": content(text), "finishReason": "STOP", "index": 0});
    let mut last = part(answer, candidate);
    let prompt_tokens = answer.prompt_tokens + answer.cached_tokens;
    let tokens = answer.tokens().len();
    last["usageMetadata"] = json!({
        "promptTokenCount": prompt_tokens,
        "candidatesTokenCount": tokens,
        "totalTokenCount": prompt_tokens + tokens + answer.reasoning_tokens,
    });
    if answer.cached_tokens > 0 {
        last["usageMetadata"]["cachedContentTokenCount"] = answer.cached_tokens.into();
    }
    // Those of the text are without them.
    if answer.reasoning_tokens > 0 {
        last["usageMetadata"]["thoughtsTokenCount"] = answer.reasoning_tokens.into();
    }
    last
}

fn part(answer: &Completion, candidate: Value) -> Value {
    json!({
        "candidates": [candidate],
        "modelVersion": answer.model,
        "responseId": answer.id,
    })
}

fn content(text: &str) -> Value {
    json!({"role": "model", "parts": [{"text": text}]})
}

pub(super) fn error(message: &str, code: u16) -> Value {
    let status = match code {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    };
    json!({"error": {"code": code, "message": message, "status": status}})
}
