//! OpenAI's chat completions, as far as DSPy speaks them: plain JSON and server-sent events.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use thiserror::Error;

use super::prompt;

/// Ends a stream.
pub(super) const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// A body that is no chat completion request.
#[derive(Debug, Error)]
pub(super) enum BadRequest {
    #[error("the request body is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("the request body has no string `model`")]
    NoModel,
    #[error("the request body has no list of `messages`")]
    NoMessages,
}

/// A chat completion request.
#[derive(Debug)]
pub(super) struct ChatRequest {
    pub(super) body: Arc<Value>,
    pub(super) model: String,
}

impl ChatRequest {
    pub(super) fn parse(body: &[u8]) -> Result<Self, BadRequest> {
        let body: Value = serde_json::from_slice(body)?;
        let model = body["model"]
            .as_str()
            .ok_or(BadRequest::NoModel)?
            .to_owned();
        if !body["messages"].is_array() {
            return Err(BadRequest::NoMessages);
        }
        Ok(Self {
            body: Arc::new(body),
            model,
        })
    }

    pub(super) fn streams(&self) -> bool {
        self.body["stream"] == true
    }

    fn wants_usage(&self) -> bool {
        self.body["stream_options"]["include_usage"] == true
    }

    /// Whether the content has to be a JSON object.
    fn wants_json(&self) -> bool {
        let format = self.body["response_format"]["type"].as_str();
        matches!(format, Some("json_object" | "json_schema")) || prompt::wants_json(&self.prompt())
    }

    pub(super) fn render(&self, fields: &[(String, String)]) -> String {
        prompt::render(fields, self.wants_json())
    }

    pub(super) fn echo(&self) -> String {
        prompt::echo(&self.prompt(), self.wants_json())
    }

    fn prompt(&self) -> String {
        self.messages().last().map(text).unwrap_or_default()
    }

    fn messages(&self) -> &[Value] {
        self.body["messages"].as_array().map_or(&[], Vec::as_slice)
    }
}

/// The text of a message, whose content is a string or a list of parts.
fn text(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|p| p["text"].as_str()).collect(),
        _ => String::new(),
    }
}

/// An answer, in both its forms.
#[derive(Debug)]
pub(super) struct Completion {
    id: String,
    model: String,
    text: String,
    prompt_tokens: usize,
    wants_usage: bool,
}

impl Completion {
    pub(super) fn new(request: &ChatRequest, n: usize, text: String) -> Self {
        let prompt_tokens = request
            .messages()
            .iter()
            .map(|m| tokens(&self::text(m)).len());
        Self {
            id: format!("chatcmpl-{}-{n}", request.model),
            model: request.model.clone(),
            text,
            prompt_tokens: prompt_tokens.sum(),
            wants_usage: request.wants_usage(),
        }
    }

    pub(super) fn tokens(&self) -> Vec<&str> {
        tokens(&self.text)
    }

    fn usage(&self) -> Value {
        let completion_tokens = self.tokens().len();
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
        })
    }

    /// The whole answer.
    pub(super) fn body(&self) -> Bytes {
        let body = json!({
            "id": self.id,
            "object": "chat.completion",
            "created": 0,
            "model": self.model,
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": self.text},
                "finish_reason": "stop",
            }],
            "usage": self.usage(),
        });
        Bytes::from(body.to_string())
    }

    /// The event that opens a stream.
    pub(super) fn opening(&self) -> Bytes {
        self.event(json!({"role": "assistant", "content": ""}), None)
    }

    /// The event of one token.
    pub(super) fn token(&self, token: &str) -> Bytes {
        self.event(json!({"content": token}), None)
    }

    /// The event that says why the answer ends.
    pub(super) fn closing(&self) -> Bytes {
        self.event(json!({}), Some("stop"))
    }

    /// The event of the usage, if the request asked for it.
    pub(super) fn closing_usage(&self) -> Option<Bytes> {
        self.wants_usage
            .then(|| self.chunk(json!([]), self.usage()))
    }

    fn event(&self, delta: Value, finish_reason: Option<&str>) -> Bytes {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish_reason});
        self.chunk(json!([choice]), Value::Null)
    }

    fn chunk(&self, choices: Value, usage: Value) -> Bytes {
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": 0,
            "model": self.model,
            "choices": choices,
        });
        // As the real API does: every chunk has the field once usage is asked for.
        if self.wants_usage {
            chunk["usage"] = usage;
        }
        Bytes::from(format!("data: {chunk}\n\n"))
    }
}

/// An error body.
pub(super) fn error(message: &str, code: u16) -> Bytes {
    let kind = match code {
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    let error = json!({"message": message, "type": kind, "param": null, "code": code.to_string()});
    Bytes::from(json!({"error": error}).to_string())
}

/// The list of models.
pub(super) fn models(names: &[String]) -> Bytes {
    let models: Vec<_> = names
        .iter()
        .map(|name| json!({"id": name, "object": "model", "created": 0, "owned_by": "scripted"}))
        .collect();
    Bytes::from(json!({"object": "list", "data": models}).to_string())
}

/// Cuts a text into words, each with the space before it; together they are the text.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest
            .find(|c: char| !c.is_whitespace())
            .unwrap_or(rest.len());
        let end = rest[word..].find(char::is_whitespace);
        let (token, after) = rest.split_at(end.map_or(rest.len(), |end| word + end));
        tokens.push(token);
        rest = after;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_the_text() {
        assert_eq!(tokens("a  b\n\nç "), ["a", "  b", "\n\nç", " "]);
        assert_eq!(tokens(" "), [" "]);
        assert!(tokens("").is_empty());
    }

    #[test]
    fn a_body_that_is_no_request_is_refused_with_the_reason() {
        let refused = |body: &str| ChatRequest::parse(body.as_bytes()).unwrap_err();
        assert!(matches!(refused("{"), BadRequest::NotJson(_)));
        assert!(matches!(refused("3"), BadRequest::NoModel));
        assert!(matches!(
            refused(r#"{"model": "m"}"#),
            BadRequest::NoMessages
        ));
    }

    #[test]
    fn the_echo_reads_contents_made_of_parts() {
        let body = r#"{"model": "m", "messages": [
            {"role": "user", "content": [{"type": "text", "text": "pi"}, {"type": "text", "text": "ng"}]}
        ]}"#;
        let request = ChatRequest::parse(body.as_bytes()).unwrap();
        assert_eq!(request.echo(), "You said: ping");
    }
}
