//! The metrics of the GenAI conventions: LM calls, programs and tools.

use std::time::Duration;

use metrics::{Histogram, Label};

use super::cost::{counted_cost, lm_cost};
use super::emit::{
    count, label, lm_label, model_label, program_label, provider_label, record, record_seconds,
    tool_label,
};
use crate::{
    call::{LmCall, LmOutcome},
    telemetry::{
        metric_names::{
            GEN_AI_FIRST_CHUNK, GEN_AI_OPERATION_DURATION, GEN_AI_OUTPUT_CHUNK, GEN_AI_TOKEN_USAGE,
            GEN_AI_TOOL_DURATION, GEN_AI_WORKFLOW_DURATION, LM_CALLS,
        },
        names,
    },
};

/// An LM call has ended that was made for `program`, if for one.
pub(crate) fn lm_call_ended(program: &str, call: &LmCall) {
    let lm = lm_label(&call.provider, &call.model);
    let status = call.status.map(|status| status.to_string());
    let mut ours = vec![
        label("program", program_label(program)),
        label("lm", lm),
        label("outcome", outcome(call.outcome)),
    ];
    ours.extend(status.clone().map(|status| label("status", status)));
    count(&LM_CALLS, ours, 1);

    let mut labels = lm_labels(call.is_embedding, &call.provider, &call.model);
    if call.is_stream
        && let Some(first) = call.first_content
    {
        let first = first.saturating_sub(call.started);
        record_seconds(&GEN_AI_FIRST_CHUNK, labels.clone(), first);
    }
    if let Some(model) = &call.response_model {
        labels.push(label("gen_ai.response.model", model_label(model)));
    }
    lm_tokens_of(call, &labels);
    lm_cost(program, call);
    // A cancel that was meant is no error.
    let error = match call.outcome {
        LmOutcome::Answered => status.filter(|_| call.status >= Some(400)),
        LmOutcome::Elapsed => Some("timeout".to_owned()),
        LmOutcome::Cancelled => None,
        other => Some(outcome(other).to_owned()),
    };
    labels.extend(error.map(|error| label("error.type", error)));
    record_seconds(&GEN_AI_OPERATION_DURATION, labels, call.duration);
}

/// The tokens of an LM call that was made for `program`, if for one, are known now, after its end.
pub(crate) fn lm_tokens(program: &str, call: &LmCall) {
    counted_cost(program, call);
    let mut labels = lm_labels(call.is_embedding, &call.provider, &call.model);
    if let Some(model) = &call.response_model {
        labels.push(label("gen_ai.response.model", model_label(model)));
    }
    lm_tokens_of(call, &labels);
}

fn lm_tokens_of(call: &LmCall, labels: &[Label]) {
    for (kind, tokens) in [
        ("input", call.prompt_tokens),
        ("output", call.completion_tokens),
    ] {
        if let Some(tokens) = tokens {
            let mut labels = labels.to_vec();
            labels.push(label("gen_ai.token.type", kind));
            record(&GEN_AI_TOKEN_USAGE, labels, tokens as f64);
        }
    }
}

/// An attempt at `program` has ended; `error` is the kind of its error.
pub(crate) fn attempt_ended(program: &str, duration: Duration, error: Option<&'static str>) {
    let mut labels = vec![label("gen_ai.workflow.name", program_label(program))];
    labels.extend(error.map(|error| label("error.type", error)));
    record_seconds(&GEN_AI_WORKFLOW_DURATION, labels, duration);
}

/// A call of a tool has ended, in an error if `failed`.
pub(crate) fn tool_ended(tool: &str, duration: Duration, failed: bool) {
    let mut labels = vec![
        label("gen_ai.operation.name", "execute_tool"),
        label("gen_ai.tool.name", tool_label(tool)),
        label("gen_ai.tool.type", "function"),
    ];
    labels.extend(failed.then(|| label("error.type", "_OTHER")));
    record_seconds(&GEN_AI_TOOL_DURATION, labels, duration);
}

/// The metric of the time between chunks, of one streamed LM call.
#[derive(Debug)]
pub(crate) struct ChunkIntervals(Histogram);

impl ChunkIntervals {
    pub(crate) fn new(provider: &str, model: &str) -> Self {
        // Embeddings are no stream.
        let labels = lm_labels(false, provider, model);
        Self(metrics::histogram!(GEN_AI_OUTPUT_CHUNK.name, labels))
    }

    /// A chunk came so long after the one before.
    pub(crate) fn chunk(&self, after: Duration) {
        self.0.record(after.as_secs_f64());
    }
}

fn lm_labels(is_embedding: bool, provider: &str, model: &str) -> Vec<Label> {
    vec![
        label(names::OPERATION, names::lm_operation(is_embedding)),
        label("gen_ai.provider.name", provider_label(provider)),
        label("gen_ai.request.model", model_label(model)),
    ]
}

const fn outcome(outcome: LmOutcome) -> &'static str {
    match outcome {
        LmOutcome::Answered => "answered",
        LmOutcome::Elapsed => "elapsed",
        LmOutcome::Cancelled => "cancelled",
        LmOutcome::Refused => "refused",
        LmOutcome::Failed => "failed",
    }
}
