//! [`StreamEvent`]: a part of an answer.

use std::{fmt, sync::Arc};

use serde_json::Value;

use crate::request::Prediction;

/// A part of an answer, from a [`PredictionStream`](super::PredictionStream).
///
/// A text belongs to a field of one LM call of one predictor: the same field may be written again by
/// a later LM call. The sum of the deltas of a field and an LM call is the field of that LM call's
/// answer as DSPy parsed it, unless a later [`Replace`](Self::Replace) or
/// [`Restart`](Self::Restart) changes it. The fields of the program are those of [`Done`](Self::Done).
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum StreamEvent {
    /// More text of a field.
    Text {
        /// The number of the LM call among the streamed ones of this call, from 1.
        lm_call: u64,
        /// The name of the predictor, as in `named_predictors()` of the program.
        predictor: Arc<str>,
        /// The name of the output field.
        field: Arc<str>,
        /// The text that follows what came before; never empty.
        delta: String,
    },
    /// More of the model's own thinking, which providers send apart from the answer.
    Thinking {
        /// As for [`Text`](Self::Text).
        lm_call: u64,
        /// As for [`Text`](Self::Text).
        predictor: Arc<str>,
        /// The text that follows what came before; never empty.
        delta: String,
    },
    /// The whole text of a field so far is this one instead: DSPy parsed another one; or the program
    /// answers with another one than its last LM call wrote.
    Replace {
        /// As for [`Text`](Self::Text).
        lm_call: u64,
        /// As for [`Text`](Self::Text).
        predictor: Arc<str>,
        /// As for [`Text`](Self::Text).
        field: Arc<str>,
        /// The text of the field.
        text: String,
    },
    /// The texts of an LM call do not hold: it failed, or DSPy could not parse its answer. Another LM
    /// call may follow.
    Restart {
        /// As for [`Text`](Self::Text).
        lm_call: u64,
        /// As for [`Text`](Self::Text).
        predictor: Arc<str>,
    },
    /// A message of the program about what it does, by `tower_dspy.status("..")`, or of DSPy.
    Status {
        /// The message.
        message: String,
    },
    /// The program calls a tool.
    ToolCall {
        /// The number of the tool call in this call, from 1.
        id: u64,
        /// The name of the tool.
        name: Arc<str>,
        /// The arguments by name.
        arguments: Value,
    },
    /// A tool has answered.
    ToolResult {
        /// That of the tool call.
        id: u64,
        /// The name of the tool.
        name: Arc<str>,
        /// What it returned, or the message of its error.
        result: Result<Value, String>,
    },
    /// The answer. It is the last event.
    Done(Box<Prediction>),
}

/// Lengths in place of texts: an answer must not reach a log by accident.
impl fmt::Debug for StreamEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, lm_call, predictor, field, length) = match self {
            Self::Text {
                lm_call,
                predictor,
                field,
                delta,
            } => ("Text", lm_call, predictor, Some(field), Some(delta.len())),
            Self::Thinking {
                lm_call,
                predictor,
                delta,
            } => ("Thinking", lm_call, predictor, None, Some(delta.len())),
            Self::Replace {
                lm_call,
                predictor,
                field,
                text,
            } => ("Replace", lm_call, predictor, Some(field), Some(text.len())),
            Self::Restart { lm_call, predictor } => ("Restart", lm_call, predictor, None, None),
            Self::Status { message } => {
                let mut shown = f.debug_struct("Status");
                return shown.field("bytes", &message.len()).finish();
            }
            Self::ToolCall { id, name, .. } => {
                let mut shown = f.debug_struct("ToolCall");
                return shown
                    .field("id", id)
                    .field("name", name)
                    .finish_non_exhaustive();
            }
            Self::ToolResult { id, name, result } => {
                let mut shown = f.debug_struct("ToolResult");
                shown.field("id", id).field("name", name);
                return shown.field("is_ok", &result.is_ok()).finish();
            }
            Self::Done(prediction) => return f.debug_tuple("Done").field(prediction).finish(),
        };
        let mut shown = f.debug_struct(name);
        shown
            .field("lm_call", lm_call)
            .field("predictor", predictor);
        if let Some(field) = field {
            shown.field("field", field);
        }
        if let Some(length) = length {
            shown.field("bytes", &length);
        }
        shown.finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn debug_shows_no_text() {
        let (name, text) = (Arc::<str>::from("answer"), || "a secret".to_owned());
        let (lm_call, id) = (1, 1);
        let (predictor, field) = (name.clone(), name.clone());
        let events = [
            StreamEvent::Text {
                lm_call,
                predictor: predictor.clone(),
                field: field.clone(),
                delta: text(),
            },
            StreamEvent::Thinking {
                lm_call,
                predictor: predictor.clone(),
                delta: text(),
            },
            StreamEvent::Replace {
                lm_call,
                predictor,
                field,
                text: text(),
            },
            StreamEvent::Status { message: text() },
            StreamEvent::ToolCall {
                id,
                name: name.clone(),
                arguments: json!({"about": text()}),
            },
            StreamEvent::ToolResult {
                id,
                name,
                result: Err(text()),
            },
        ];
        for event in events {
            let shown = format!("{event:?}");
            assert!(!shown.contains("secret"), "{shown}");
        }
    }
}
