//! The bodies of answers, in each dialect.

use serde_json::{Value, json};

use super::{Dialect, Told, prompt};
use crate::harness::corpus::{Reply, ToolCall};

/// An answer's body and the tokens that it tells of.
#[derive(Debug)]
pub(super) struct Answer {
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
        let told = if failed || reply.body.is_some() || dialect == Dialect::Unknown {
            Told::default()
        } else {
            told(dialect, number)
        };
        Self { body, told }
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

/// As many as the request asks for.
fn choices(asked: &Value, choice: impl Fn(u64) -> Value) -> Value {
    (0..asked["n"].as_u64().unwrap_or(1)).map(choice).collect()
}

fn choice(asked: &Value, number: u64, text: &str, reply: &Reply) -> Value {
    let mut message = json!({"role": "assistant", "content": text});
    if let Some(reasoning) = &reply.reasoning {
        message["reasoning_content"] = json!(reasoning);
    }
    if !reply.tool_calls.is_empty() {
        if text.is_empty() {
            message["content"] = Value::Null;
        }
        let calls = reply.tool_calls.iter().enumerate().map(|(n, call)| {
            json!({"id": format!("call-{n}"), "type": "function", "function": {
                "name": call.name, "arguments": arguments(call),
            }})
        });
        message["tool_calls"] = calls.collect();
    }
    let end = if reply.tool_calls.is_empty() {
        "stop"
    } else {
        "tool_calls"
    };
    let mut choice = json!({"index": number, "finish_reason": end, "message": message});
    if asked["logprobs"] == true {
        let token = json!({"token": "an", "logprob": -0.5, "bytes": [97, 110], "top_logprobs": []});
        choice["logprobs"] = json!({"content": [token]});
    }
    choice
}

/// The items of a response of OpenAI's Responses API.
fn output(text: &str, reply: &Reply) -> Vec<Value> {
    let mut items = Vec::new();
    if let Some(reasoning) = &reply.reasoning {
        items.push(json!({"type": "reasoning", "id": "rs-0", "summary": [
            {"type": "summary_text", "text": reasoning},
        ]}));
    }
    if !text.is_empty() {
        items.push(json!({
            "type": "message", "id": "item-0", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": []}],
        }));
    }
    for (n, call) in reply.tool_calls.iter().enumerate() {
        items.push(json!({
            "type": "function_call", "id": format!("fc-{n}"), "call_id": format!("call-{n}"),
            "name": call.name, "arguments": arguments(call), "status": "completed",
        }));
    }
    items
}

/// The blocks of a message of Anthropic's.
fn blocks(text: &str, reply: &Reply) -> Vec<Value> {
    let mut blocks = Vec::new();
    if let Some(reasoning) = &reply.reasoning {
        blocks.push(json!({"type": "thinking", "thinking": reasoning, "signature": "c2ln"}));
    }
    if !text.is_empty() {
        let mut block = json!({"type": "text", "text": text});
        if !reply.citations.is_empty() {
            let citations = reply.citations.iter().map(|cited| {
                json!({
                    "type": "char_location", "cited_text": cited, "document_index": 0,
                    "document_title": "Title", "start_char_index": 0,
                    "end_char_index": cited.len(),
                })
            });
            block["citations"] = citations.collect();
        }
        blocks.push(block);
    }
    for (n, call) in reply.tool_calls.iter().enumerate() {
        blocks.push(json!({
            "type": "tool_use", "id": format!("call-{n}"), "name": call.name, "input": call.args,
        }));
    }
    blocks
}

/// The parts of a content of Gemini's.
fn parts(text: &str, reply: &Reply) -> Vec<Value> {
    let mut parts = Vec::new();
    if let Some(reasoning) = &reply.reasoning {
        parts.push(json!({"text": reasoning, "thought": true}));
    }
    if !text.is_empty() {
        parts.push(json!({"text": text}));
    }
    for call in &reply.tool_calls {
        parts.push(json!({"functionCall": {"name": call.name, "args": call.args}}));
    }
    parts
}

fn arguments(call: &ToolCall) -> String {
    Value::Object(call.args.clone()).to_string()
}

/// A vector for each text: its length and its first letter, so that texts differ.
fn embeddings(input: &Value) -> Vec<Value> {
    let texts = match input {
        Value::Array(texts) => texts.clone(),
        text => vec![text.clone()],
    };
    let vectors = texts.iter().enumerate().map(|(n, text)| {
        let text = text.as_str().unwrap_or_default();
        let first = text.bytes().next().unwrap_or(0);
        let vector = [text.len() as f64 / 100.0, f64::from(first) / 256.0, 0.25];
        json!({"object": "embedding", "index": n, "embedding": vector})
    });
    vectors.collect()
}

fn failure(dialect: Dialect, status: u16) -> Value {
    let message = format!("scripted failure {status}");
    match dialect {
        Dialect::Anthropic => json!({
            "type": "error", "error": {"type": anthropic_error(status), "message": message},
        }),
        Dialect::Gemini => json!({
            "error": {"code": status, "message": message, "status": "UNKNOWN"},
        }),
        Dialect::BedrockConverse => json!({"message": message}),
        Dialect::OllamaChat | Dialect::OllamaGenerate | Dialect::OllamaEmbed => {
            json!({"error": message})
        }
        _ => json!({
            "error": {"message": message, "type": "scripted", "param": null, "code": null},
        }),
    }
}

const fn anthropic_error(status: u16) -> &'static str {
    match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    }
}
