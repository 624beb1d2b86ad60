//! The chunks of the UI message stream that are written here.
//!
//! They are those of `uiMessageChunkSchema` in npm `ai` 7.

use serde::Serialize;
use serde_json::Value;

use crate::inbound::{axum::prediction::PredictionBody, respond::Problem};

#[derive(Serialize)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub(super) enum UiChunk<'a> {
    Start,
    StartStep,
    FinishStep,
    /// Removes all parts that were added since the last `start-step`.
    ResetStep,
    TextStart {
        id: &'a str,
        provider_metadata: UiPartMetadata<'a>,
    },
    TextDelta {
        id: &'a str,
        delta: &'a str,
    },
    TextEnd {
        id: &'a str,
    },
    ReasoningStart {
        id: &'a str,
        provider_metadata: UiPartMetadata<'a>,
    },
    ReasoningDelta {
        id: &'a str,
        delta: &'a str,
    },
    ReasoningEnd {
        id: &'a str,
    },
    ToolInputAvailable {
        tool_call_id: &'a str,
        tool_name: &'a str,
        input: &'a Value,
        provider_executed: bool,
        dynamic: bool,
    },
    ToolOutputAvailable {
        tool_call_id: &'a str,
        output: &'a Value,
        provider_executed: bool,
        dynamic: bool,
    },
    ToolOutputError {
        tool_call_id: &'a str,
        error_text: &'a str,
        provider_executed: bool,
        dynamic: bool,
    },
    DataStatus {
        data: UiStatus<'a>,
        transient: bool,
    },
    DataRestart {
        data: UiRestart<'a>,
    },
    DataPrediction {
        data: &'a PredictionBody,
    },
    Finish {
        finish_reason: &'static str,
    },
    DataError {
        data: Problem<'a>,
        transient: bool,
    },
    Abort {
        reason: &'static str,
    },
    Error {
        error_text: &'a str,
    },
}

#[derive(Serialize)]
pub(super) struct UiStatus<'a> {
    pub(super) message: &'a str,
}

/// The parts that do not hold.
#[derive(Serialize)]
pub(super) struct UiRestart<'a> {
    pub(super) parts: &'a [&'a str],
}

/// What a client keeps of a part beside its text; the id is not kept.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UiPartMetadata<'a> {
    pub(super) tower_dspy: UiPartName<'a>,
}

#[derive(Serialize)]
pub(super) struct UiPartName<'a> {
    pub(super) part: &'a str,
}
