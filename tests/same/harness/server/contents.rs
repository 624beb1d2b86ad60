//! The contents of answers, in each dialect: choices, items, blocks, parts, vectors.

use serde_json::{Value, json};

use crate::harness::corpus::{Reply, ToolCall};

/// As many as the request asks for.
pub(super) fn choices(asked: &Value, choice: impl Fn(u64) -> Value) -> Value {
    (0..asked["n"].as_u64().unwrap_or(1)).map(choice).collect()
}

pub(super) fn choice(asked: &Value, number: u64, text: &str, reply: &Reply) -> Value {
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
pub(super) fn output(text: &str, reply: &Reply) -> Vec<Value> {
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
pub(super) fn blocks(text: &str, reply: &Reply) -> Vec<Value> {
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
pub(super) fn parts(text: &str, reply: &Reply) -> Vec<Value> {
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
pub(super) fn embeddings(input: &Value) -> Vec<Value> {
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
