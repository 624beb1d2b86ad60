//! An answer in its two forms, whole and streamed, in the words of its dialect.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    anthropic,
    completion::{self, Completion},
    gemini,
    interlude::SilentEvent,
    openai,
    request::Dialect,
};

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
            Dialect::Anthropic => anthropic::token(self, token),
            Dialect::Gemini => gemini::token(self, token),
        }
    }

    /// The event of one delta of the thinking.
    pub(super) fn thought(&self, delta: &str) -> Bytes {
        match self.dialect {
            Dialect::OpenAi => openai::thought(self, delta),
            Dialect::Anthropic => anthropic::thought(delta),
            Dialect::Gemini => gemini::thought(self, delta),
        }
    }

    /// The events between the thinking and the text.
    pub(super) fn thought_out(&self) -> Bytes {
        match self.dialect {
            Dialect::Anthropic if !self.thoughts.is_empty() => anthropic::thought_out(self),
            _ => Bytes::new(),
        }
    }

    /// An event that has nothing of the answer.
    pub(super) fn silent(&self, event: SilentEvent) -> Bytes {
        match (event, self.dialect) {
            (SilentEvent::Ping, Dialect::Anthropic) => anthropic::ping(),
            (SilentEvent::Ping, _) => Bytes::from_static(b": ping\n\n"),
            (SilentEvent::Comment, _) => Bytes::from_static(b": keep-alive\n\n"),
            (SilentEvent::EmptyDelta, _) => self.token(""),
        }
    }

    /// The event of an error.
    pub(super) fn error(&self, message: &str, code: u16) -> Bytes {
        let error = error(self.dialect, message, code);
        match self.dialect {
            Dialect::Anthropic => anthropic::event(error).into(),
            Dialect::OpenAi | Dialect::Gemini => completion::event(&error).into(),
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
pub(super) fn error_body(dialect: Dialect, message: &str, code: u16) -> Bytes {
    Bytes::from(error(dialect, message, code).to_string())
}

fn error(dialect: Dialect, message: &str, code: u16) -> Value {
    match dialect {
        Dialect::OpenAi => openai::error(message, code),
        Dialect::Anthropic => anthropic::error(message, code),
        Dialect::Gemini => gemini::error(message, code),
    }
}

/// The list of models, as OpenAI gives it.
pub(super) fn models(names: &[String]) -> Bytes {
    let models: Vec<_> = names
        .iter()
        .map(|name| json!({"id": name, "object": "model", "created": 0, "owned_by": "scripted"}))
        .collect();
    Bytes::from(json!({"object": "list", "data": models}).to_string())
}
