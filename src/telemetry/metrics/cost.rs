//! The metrics of what LM calls cost.

use metrics::Label;

use super::emit::{count, label, lm_label, program_label, record};
use crate::{
    call::{LmCall, Usd},
    telemetry::metric_names::{LM_COST, LM_COST_UNKNOWN},
};

/// The cost of an LM call that has ended.
pub(super) fn lm_cost(program: &str, call: &LmCall) {
    if call.cost.is_none() || call.estimated_cost.is_none() {
        let labels = labels(program, (&call.provider, &call.model));
        return count(&LM_COST_UNKNOWN, labels, 1);
    }
    counted_cost(program, call);
    if let Some(usd) = call.estimated_cost.filter(|_| call.estimated_tokens > 0) {
        cost(program, (&call.provider, &call.model), "estimated", usd);
    }
}

/// What the tokens cost that were counted of an LM call.
pub(super) fn counted_cost(program: &str, call: &LmCall) {
    let is_counted = call.prompt_tokens.or(call.total_tokens).is_some();
    if let Some(usd) = call.cost.filter(|_| is_counted) {
        cost(program, (&call.provider, &call.model), "counted", usd);
    }
}

/// What an answer cost that came after the end of its attempt.
pub(crate) fn late_cost(program: &str, lm: (&str, &str), usd: Usd) {
    if usd > Usd::ZERO {
        cost(program, lm, "late", usd);
    }
}

fn cost(program: &str, lm: (&str, &str), kind: &'static str, usd: Usd) {
    let mut labels = labels(program, lm);
    labels.push(label("kind", kind));
    record(&LM_COST, labels, usd.as_f64());
}

fn labels(program: &str, (provider, model): (&str, &str)) -> Vec<Label> {
    vec![
        label("program", program_label(program)),
        label("lm", lm_label(provider, model)),
    ]
}
