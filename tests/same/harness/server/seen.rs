//! A request as it reached the server.

use axum::http::request::Parts;
use serde_json::{Map, Value, json};

use super::sigv4;
use crate::harness::compare::clipped;

/// Headers of a connection and not of an LM call; a client may send them as it likes.
const CONNECTION: [&str; 6] = [
    "accept-encoding",
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "transfer-encoding",
];

/// Headers that AWS's signature covers and that change with the time; the signature is checked.
const SIGNED: [&str; 2] = ["x-amz-content-sha256", "x-amz-date"];

/// Headers with an identifier that is another one for each request.
const RANDOM: [&str; 1] = ["amz-sdk-invocation-id"];

#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query behind the row's prefix.
    pub(crate) target: String,
    pub(crate) headers: Map<String, Value>,
    /// Parsed, or a string where it is not JSON.
    pub(crate) body: Value,
}

impl Seen {
    pub(super) fn new(head: &Parts, path: &str, body: &[u8]) -> Self {
        let target = match head.uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        let text = || Value::String(String::from_utf8_lossy(body).into_owned());
        let mut headers = Map::new();
        for name in head.headers.keys() {
            let name = name.as_str();
            if CONNECTION.contains(&name) || SIGNED.contains(&name) || RANDOM.contains(&name) {
                continue;
            }
            let values = head.headers.get_all(name).iter();
            let values: Vec<_> = values
                .map(|value| String::from_utf8_lossy(value.as_bytes()))
                .collect();
            headers.insert(name.to_owned(), values.join(", ").into());
        }
        if let Some(signature) = sigv4::check(head, body) {
            headers.insert("authorization".into(), signature);
        }
        Self {
            method: head.method.to_string(),
            target,
            headers,
            body: serde_json::from_slice(body).unwrap_or_else(|_| text()),
        }
    }

    /// Whether the body contains `text`.
    pub(super) fn contains(&self, text: &str) -> bool {
        self.body.to_string().contains(text)
    }

    /// All of it, for a comparison.
    pub(crate) fn to_value(&self) -> Value {
        json!({
            "method": self.method,
            "target": self.target,
            "headers": self.headers,
            "body": self.body,
        })
    }

    /// A line without the prompt.
    pub(crate) fn summary(&self) -> String {
        const PROMPT: [&str; 7] = [
            "contents",
            "input",
            "instructions",
            "messages",
            "prompt",
            "system",
            "systemInstruction",
        ];
        let mut body = self.body.clone();
        if let Value::Object(fields) = &mut body {
            for name in PROMPT {
                fields.remove(name);
            }
        }
        let headers = Value::Object(self.headers.clone());
        let line = format!("{} {} {headers} {body}", self.method, self.target);
        clipped(&line, 900)
    }
}
