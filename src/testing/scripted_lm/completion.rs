//! An answer in its two forms, whole and streamed, in the words of its dialect.

use bytes::Bytes;
use serde_json::{Value, json};

use super::anthropic;
use super::gemini;
use super::openai;
use super::request::{ChatRequest, Dialect};

/// An answer.
#[derive(Debug)]
pub(super) struct Completion {
    dialect: Dialect,
    pub(super) id: String,
    pub(super) model: String,
    pub(super) text: String,
    pub(super) prompt_tokens: usize,
    pub(super) wants_usage: bool,
}

impl Completion {
    pub(super) fn new(request: &ChatRequest, n: usize, text: String) -> Self {
        let prompt_tokens = request.texts().map(|text| tokens(&text).len());
        Self {
            dialect: request.dialect,
            id: format!("scripted-{}-{n}", request.model),
            model: request.model.clone(),
            text,
            prompt_tokens: prompt_tokens.sum(),
            wants_usage: request.wants_usage(),
        }
    }

    pub(super) fn tokens(&self) -> Vec<&str> {
        tokens(&self.text)
    }

    /// The whole answer.
    pub(super) fn body(&self) -> Bytes {
        let body = match self.dialect {
            Dialect::OpenAi => openai::whole(self),
            Dialect::Anthropic => anthropic::whole(self),
            Dialect::Gemini => gemini::whole(self),
        };
        Bytes::from(body.to_string())
    }

    /// The events that open a stream.
    pub(super) fn opening(&self) -> Bytes {
        match self.dialect {
            Dialect::OpenAi => openai::opening(self),
            Dialect::Anthropic => anthropic::opening(self),
            Dialect::Gemini => Bytes::new(),
        }
    }

    /// The event of one token.
    pub(super) fn token(&self, token: &str) -> Bytes {
        match self.dialect {
            Dialect::OpenAi => openai::token(self, token),
            Dialect::Anthropic => anthropic::token(token),
            Dialect::Gemini => gemini::token(self, token),
        }
    }

    /// The events that say why the answer ends and what it used, and end the stream.
    pub(super) fn closing(&self) -> Bytes {
        match self.dialect {
            Dialect::OpenAi => openai::closing(self),
            Dialect::Anthropic => anthropic::closing(self),
            Dialect::Gemini => gemini::closing(self),
        }
    }
}

/// An error body.
pub(super) fn error(dialect: Dialect, message: &str, code: u16) -> Bytes {
    let error = match dialect {
        Dialect::OpenAi => openai::error(message, code),
        Dialect::Anthropic => anthropic::error(message, code),
        Dialect::Gemini => gemini::error(message, code),
    };
    Bytes::from(error.to_string())
}

/// The list of models, as OpenAI gives it.
pub(super) fn models(names: &[String]) -> Bytes {
    let models: Vec<_> = names
        .iter()
        .map(|name| json!({"id": name, "object": "model", "created": 0, "owned_by": "scripted"}))
        .collect();
    Bytes::from(json!({"object": "list", "data": models}).to_string())
}

/// A server-sent event.
pub(super) fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
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
}
