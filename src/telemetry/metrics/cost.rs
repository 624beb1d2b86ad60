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

#[cfg(test)]
mod tests {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    use super::*;
    use crate::call::LmOutcome;

    /// The values that were emitted, by their kind.
    fn emitted(calls: &[LmCall]) -> Vec<(Option<String>, f64)> {
        let recorder = DebuggingRecorder::new();
        let seen = recorder.snapshotter();
        metrics::with_local_recorder(&recorder, || {
            for call in calls {
                lm_cost("costs", call);
            }
        });
        let seen = seen.snapshot().into_vec().into_iter();
        let mut values: Vec<_> = seen
            .map(|(key, .., value)| {
                let kind = key.key().labels().find(|label| label.key() == "kind");
                let sum = match value {
                    DebugValue::Histogram(values) => values.iter().map(|value| value.0).sum(),
                    DebugValue::Counter(count) => count as f64,
                    DebugValue::Gauge(value) => value.0,
                };
                (kind.map(|kind| kind.value().to_owned()), sum)
            })
            .collect();
        values.sort_by(|one, other| one.0.cmp(&other.0));
        values
    }

    #[test]
    fn what_is_counted_estimated_and_unknown_is_apart() {
        let call = LmCall::new("openai", "m", LmOutcome::Answered);
        let counted = LmCall {
            prompt_tokens: Some(9),
            cost: Some(Usd::new(0.5)),
            estimated_cost: Some(Usd::ZERO),
            ..call.clone()
        };
        let cut_off = LmCall {
            cost: Some(Usd::ZERO),
            estimated_tokens: 8,
            estimated_cost: Some(Usd::new(0.25)),
            ..call.clone()
        };
        let not_sent = LmCall {
            cost: Some(Usd::ZERO),
            estimated_cost: Some(Usd::ZERO),
            ..call.clone()
        };
        let seen = emitted(&[counted.clone(), cut_off, not_sent, counted, call]);
        let kind = |kind: &str| Some(kind.to_owned());
        let expected = [
            (None, 1.0),
            (kind("counted"), 1.0),
            (kind("estimated"), 0.25),
        ];
        assert_eq!(seen, expected);
    }
}
