//! A message of a chat, and an output as its text.

use serde_json::Value;

use crate::request::Prediction;

/// Who wrote a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum ChatRole {
    User,
    Assistant,
    /// The system, or the developer, of the client: the program has instructions of its own.
    System,
}

/// The text of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct ChatMessage {
    pub(in super::super) role: ChatRole,
    pub(in super::super) text: String,
}

/// The text of an output: a string as it is, another value as JSON; `None` if there is none.
pub(in super::super) fn output_text(prediction: &Prediction, field: &str) -> Option<String> {
    prediction.get(field).map(value_text)
}

pub(in super::super) fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
