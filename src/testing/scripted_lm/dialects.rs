//! An answer in its two forms, whole and streamed, in the words of its dialect.

use bytes::Bytes;
use serde_json::json;

use super::{anthropic, completion::Completion, gemini, openai, request::Dialect};

impl Completion {
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
