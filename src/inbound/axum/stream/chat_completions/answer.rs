//! A whole completion.

use serde::Serialize;

use super::{
    super::{
        chat::{ChatFields, output_text},
        failure::StreamFailure,
    },
    programs::now,
    usage::CompletionUsage,
};
use crate::request::Prediction;

/// A `chat.completion`.
#[derive(Serialize)]
pub(super) struct Completion<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: [Choice; 1],
    usage: CompletionUsage,
}

#[derive(Serialize)]
struct Choice {
    index: u32,
    message: Message,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message {
    role: &'static str,
    content: String,
    refusal: Option<()>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning_content: String,
}

/// An identifier of a completion.
pub(super) fn new_id() -> String {
    format!("chatcmpl-{:016x}", fastrand::u64(..))
}

pub(super) fn completion<'a>(
    model: &'a str,
    fields: &ChatFields,
    prediction: &Prediction,
) -> Result<Completion<'a>, StreamFailure> {
    let content = output_text(prediction, &fields.answer)
        .ok_or_else(|| StreamFailure::no_output(&fields.answer))?;
    let reasoning = fields.reasoning_fields();
    let reasoning: Vec<_> = reasoning
        .filter_map(|field| output_text(prediction, field))
        .collect();
    Ok(Completion {
        id: new_id(),
        object: "chat.completion",
        created: now(),
        model,
        choices: [Choice {
            index: 0,
            message: Message {
                role: "assistant",
                content,
                refusal: None,
                reasoning_content: reasoning.join("\n\n"),
            },
            logprobs: None,
            finish_reason: "stop",
        }],
        usage: prediction.usage.into(),
    })
}
