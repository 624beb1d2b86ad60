//! The totals that one call's LM calls are added to: those of the host, and the metrics.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::counters::HostCounters;
use crate::{
    call::{
        Cost, LmCall, Usage,
        record::{LateAnswer, Totals},
    },
    telemetry::metrics::{self, TokenFate},
};

/// The totals of the LM calls of one attempt at a program, or of code that belongs to no call.
#[derive(Debug)]
pub(crate) struct CallTotals {
    counters: Arc<HostCounters>,
    /// The label of its metrics.
    program: Arc<str>,
    spending: Mutex<Spending>,
}

/// What becomes of the tokens of an attempt.
#[derive(Debug)]
enum Spending {
    /// It is known when the attempt is closed.
    Open(Vec<LmTokens>),
    /// Those of LM calls that ended before the close and are counted after it, too.
    Closed(TokenFate),
}

/// The tokens that an LM was paid for.
#[derive(Debug)]
struct LmTokens {
    provider: Arc<str>,
    model: Arc<str>,
    tokens: u64,
}

impl CallTotals {
    pub(super) fn of_attempt(counters: Arc<HostCounters>, program: Arc<str>) -> Arc<Self> {
        Self::new(counters, program, Spending::Open(Vec::new()))
    }

    /// Of code that belongs to no call: its tokens are used.
    pub(super) fn of_no_call(counters: Arc<HostCounters>) -> Arc<Self> {
        Self::new(counters, "".into(), Spending::Closed(TokenFate::Used))
    }

    fn new(counters: Arc<HostCounters>, program: Arc<str>, spending: Spending) -> Arc<Self> {
        Arc::new(Self {
            counters,
            program,
            spending: Mutex::new(spending),
        })
    }

    fn spending(&self) -> MutexGuard<'_, Spending> {
        self.spending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of the program in metrics.
    pub(super) fn program(&self) -> &str {
        &self.program
    }

    /// The attempt is closed, with an answer or without one.
    pub(super) fn close(&self, is_answered: bool) {
        let fate = if is_answered {
            TokenFate::Used
        } else {
            TokenFate::Wasted
        };
        let before = mem::replace(&mut *self.spending(), Spending::Closed(fate));
        let Spending::Open(open) = before else {
            return;
        };
        for lm in open {
            let LmTokens {
                provider,
                model,
                tokens,
            } = lm;
            if !is_answered {
                self.counters.wasted(&provider, &model, tokens);
            }
            metrics::tokens(&self.program, (&provider, &model), fate, tokens);
        }
    }

    fn spend(&self, call: &LmCall, tokens: u64) {
        if tokens == 0 {
            return;
        }
        let LmCall {
            provider, model, ..
        } = call;
        let mut spending = self.spending();
        let open = match &mut *spending {
            Spending::Open(open) => open,
            Spending::Closed(fate) => {
                let fate = *fate;
                // A recorder is foreign code.
                drop(spending);
                return metrics::tokens(&self.program, (provider, model), fate, tokens);
            }
        };
        let is_it = |lm: &&mut LmTokens| lm.provider == *provider && lm.model == *model;
        match open.iter_mut().find(is_it) {
            Some(lm) => lm.tokens = lm.tokens.saturating_add(tokens),
            None => open.push(LmTokens {
                provider: provider.clone(),
                model: model.clone(),
                tokens,
            }),
        }
    }
}

impl Totals for CallTotals {
    fn lm_call_begun(&self, call: &LmCall) {
        self.counters.lm_call_begun(call);
    }

    fn lm_call_ended(&self, call: &LmCall) {
        self.counters.lm_call_ended(call);
        metrics::lm_call_ended(&self.program, call);
        self.spend(call, call.usage().total_tokens);
    }

    fn counted_by_dspy(&self, call: &LmCall, usage: Usage, before: Cost) {
        self.counters.counted_by_dspy(call, usage, before);
        metrics::lm_tokens(&self.program, call);
        self.spend(call, usage.total_tokens);
    }

    fn answered_too_late(&self, late: LateAnswer<'_>) {
        let LateAnswer {
            provider,
            model,
            tokens,
            usd,
        } = late;
        self.counters.answered_too_late(tokens, usd);
        metrics::late_cost(&self.program, (provider, model), usd);
        metrics::tokens(&self.program, (provider, model), TokenFate::Late, tokens);
    }

    fn abort_ended(&self, lm: (&str, &str), is_accepted: bool) {
        self.counters.abort_ended(is_accepted);
        metrics::lm_abort_ended(lm, is_accepted);
    }
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    use super::*;
    use crate::{call::LmOutcome, telemetry::metric_names::TOKENS_BY_FATE};

    /// The tokens by their fate.
    fn tokens(emit: impl FnOnce(&CallTotals)) -> Vec<(String, u64)> {
        let recorder = DebuggingRecorder::new();
        let seen = recorder.snapshotter();
        let totals = CallTotals::of_attempt(HostCounters::new(0), "fates".into());
        ::metrics::with_local_recorder(&recorder, || emit(&totals));
        let seen = seen.snapshot().into_vec().into_iter();
        let tokens = seen.filter_map(|(key, .., value)| {
            let key = key.key();
            let fate = key.labels().find(|label| label.key() == "fate")?;
            match value {
                DebugValue::Counter(n) if key.name() == TOKENS_BY_FATE.name => {
                    Some((fate.value().to_owned(), n))
                }
                _ => None,
            }
        });
        tokens.collect()
    }

    #[test]
    fn tokens_that_are_counted_after_the_close_have_the_fate_of_their_attempt() {
        for (is_answered, fate) in [(true, "used"), (false, "wasted")] {
            let call = LmCall {
                total_tokens: Some(20),
                ..LmCall::new("openai", "m", LmOutcome::Answered)
            };
            let usage = Usage {
                total_tokens: 1,
                ..Usage::default()
            };
            let seen = tokens(|totals| {
                totals.lm_call_ended(&call);
                totals.close(is_answered);
                totals.counted_by_dspy(&call, usage, Cost::of(&call));
            });
            assert_eq!(seen, [(fate.to_owned(), 21)]);
        }
    }
}
