//! A completion as a stream of server-sent events.

use serde_json::{Value, json};

/// A completion of OpenAI's as a stream of events: its text in two pieces.
pub(super) fn events(completion: &str) -> String {
    let completion: Value = serde_json::from_str(completion).unwrap_or_default();
    let text = completion["choices"][0]["message"]["content"].as_str();
    let text = text.unwrap_or_default();
    let (start, rest) = halves(text);
    let chunk = |delta: Value, end: Value| {
        json!({
            "id": completion["id"], "object": "chat.completion.chunk", "created": 1,
            "model": completion["model"],
            "choices": [{"index": 0, "delta": delta, "finish_reason": end}],
        })
    };
    let mut last = chunk(json!({}), json!("stop"));
    last["usage"] = completion["usage"].clone();
    let chunks = [
        chunk(json!({"role": "assistant", "content": start}), Value::Null),
        chunk(json!({"content": rest}), Value::Null),
        last,
    ];
    let mut events: String = chunks
        .iter()
        .map(|chunk| format!("data: {chunk}\n\n"))
        .collect();
    events.push_str("data: [DONE]\n\n");
    events
}

fn halves(text: &str) -> (&str, &str) {
    let middle = text.char_indices().nth(text.chars().count() / 2);
    text.split_at(middle.map_or(0, |(middle, _)| middle))
}
