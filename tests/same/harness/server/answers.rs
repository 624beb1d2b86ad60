//! The bodies of answers, in each dialect.

use serde_json::{Value, json};

use super::{
    Dialect, Told,
    contents::{blocks, choice, choices, embeddings, output, parts},
    events::events,
    failures::failure,
    prompt,
};
use crate::harness::corpus::Reply;

/// An answer's body and the tokens that it tells of.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) content_type: &'static str,
    pub(super) body: String,
    pub(super) told: Told,
}

impl Answer {
    /// The answer to request `number` of its side and row.
    pub(super) fn new(
        dialect: Dialect,
        path: &str,
        asked: &Value,
        reply: &Reply,
        number: u64,
    ) -> Self {
        let failed = reply.status.is_some_and(|status| status >= 400);
        let body = match (&reply.body, reply.status) {
            (Some(body), _) => body.clone(),
            (None, Some(status)) if failed => failure(dialect, status).to_string(),
            _ => success(dialect, path, asked, reply, number).to_string(),
        };
        let streams = dialect == Dialect::Chat && asked["stream"] == true && !failed;
        let (body, content_type) = if streams {
            (events(&body), "text/event-stream")
        } else {
            (body, "application/json")
        };
        let told = if failed || reply.body.is_some() || dialect == Dialect::Unknown {
            Told::default()
        } else {
            told(dialect, number)
        };
        Self {
            content_type,
            body,
            told,
        }
    }
}

/// Other numbers for each request, so that a sum tells which were counted.
const fn told(dialect: Dialect, number: u64) -> Told {
    Told {
        prompt: 10 + number,
        completion: match dialect {
            Dialect::Embeddings | Dialect::OllamaEmbed => 0,
            _ => 100 + number,
        },
    }
}

fn success(dialect: Dialect, path: &str, asked: &Value, reply: &Reply, number: u64) -> Value {
    let Told { prompt, completion } = told(dialect, number);
    let total = prompt + completion;
    let text = match &reply.text {
        Some(text) => text.clone(),
        None if !reply.tool_calls.is_empty() && reply.fields.is_empty() => String::new(),
        None => prompt::answer(asked, &reply.fields),
    };
    let usage = json!({
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total,
    });
    let model = asked["model"].as_str().unwrap_or("model");
    match dialect {
        Dialect::Chat => json!({
            "id": format!("chat-{number}"), "object": "chat.completion", "created": 1, "model": model,
            "choices": choices(asked, |n| choice(asked, n, &text, reply)), "usage": usage,
        }),
        Dialect::Completions => json!({
            "id": format!("text-{number}"), "object": "text_completion", "created": 1,
            "model": model, "usage": usage,
            "choices": choices(asked, |n| {
                json!({"index": n, "text": text, "finish_reason": "stop", "logprobs": null})
            }),
        }),
        Dialect::Responses => json!({
            "id": format!("resp-{number}"), "object": "response", "created_at": 1,
            "status": "completed", "model": model, "output": output(&text, reply),
            "parallel_tool_calls": true, "tool_choice": "auto", "tools": [],
            "usage": {
                "input_tokens": prompt, "output_tokens": completion, "total_tokens": total,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 0},
            },
        }),
        Dialect::Embeddings => json!({
            "object": "list", "model": model, "data": embeddings(&asked["input"]),
            "usage": {"prompt_tokens": prompt, "total_tokens": prompt},
        }),
        Dialect::Anthropic => json!({
            "id": format!("msg-{number}"), "type": "message", "role": "assistant", "model": model,
            "content": blocks(&text, reply),
            "stop_reason": if reply.tool_calls.is_empty() { "end_turn" } else { "tool_use" },
            "stop_sequence": null,
            "usage": {"input_tokens": prompt, "output_tokens": completion},
        }),
        Dialect::Gemini => json!({
            "candidates": [{
                "index": 0, "finishReason": "STOP",
                "content": {"role": "model", "parts": parts(&text, reply)},
            }],
            "modelVersion": "gemini", "responseId": format!("gemini-{number}"),
            "usageMetadata": {
                "promptTokenCount": prompt, "candidatesTokenCount": completion,
                "totalTokenCount": total,
            },
        }),
        Dialect::BedrockConverse => json!({
            "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
            "stopReason": "end_turn", "metrics": {"latencyMs": 1},
            "usage": {"inputTokens": prompt, "outputTokens": completion, "totalTokens": total},
        }),
        Dialect::OllamaChat => json!({
            "model": model, "created_at": "2025-01-01T00:00:00Z", "done": true,
            "done_reason": "stop", "message": {"role": "assistant", "content": text},
            "prompt_eval_count": prompt, "eval_count": completion,
        }),
        Dialect::OllamaGenerate => json!({
            "model": model, "created_at": "2025-01-01T00:00:00Z", "done": true,
            "done_reason": "stop", "response": text,
            "prompt_eval_count": prompt, "eval_count": completion,
        }),
        Dialect::OllamaEmbed => {
            let vectors = embeddings(&asked["input"]).into_iter();
            let vectors: Vec<_> = vectors.map(|vector| vector["embedding"].clone()).collect();
            json!({"model": model, "embeddings": vectors, "prompt_eval_count": prompt})
        }
        Dialect::CohereChat => json!({
            "id": format!("cohere-{number}"), "finish_reason": "COMPLETE",
            "generation_id": "g", "text": text,
            "message": {"role": "assistant", "content": [{"type": "text", "text": text}]},
            "usage": {"tokens": {"input_tokens": prompt, "output_tokens": completion}},
            "meta": {"billed_units": {"input_tokens": prompt, "output_tokens": completion}},
        }),
        Dialect::Unknown => json!({"error": {"message": format!("no such path: {path}")}}),
    }
}
