//! The totals that one call's LM calls are added to: those of the host, and the metrics.

use std::sync::{Arc, Mutex, PoisonError};

use super::counters::HostCounters;
use crate::{
    call::{
        LmCall, Usage,
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
    /// The tokens of an attempt, until it is closed: then it is known whether they were wasted. `None`
    /// for code that belongs to no call, whose tokens are used.
    open: Mutex<Option<Vec<LmTokens>>>,
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
        Self::new(counters, program, Some(Vec::new()))
    }

    /// Of code that belongs to no call.
    pub(super) fn of_no_call(counters: Arc<HostCounters>) -> Arc<Self> {
        Self::new(counters, "".into(), None)
    }

    fn new(
        counters: Arc<HostCounters>,
        program: Arc<str>,
        open: Option<Vec<LmTokens>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            counters,
            program,
            open: Mutex::new(open),
        })
    }

    /// The name of the program in metrics.
    pub(super) fn program(&self) -> &str {
        &self.program
    }

    /// The attempt is closed, with an answer or without one.
    pub(super) fn close(&self, is_answered: bool) {
        let open = self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let fate = if is_answered {
            TokenFate::Used
        } else {
            TokenFate::Wasted
        };
        for lm in open.unwrap_or_default() {
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
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = &mut *open else {
            let lm = (&**provider, &**model);
            return metrics::tokens(&self.program, lm, TokenFate::Used, tokens);
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

    fn counted_by_dspy(&self, call: &LmCall, usage: Usage) {
        self.counters.counted_by_dspy(call, usage);
        metrics::lm_tokens(call);
        self.spend(call, usage.total_tokens);
    }

    fn answered_too_late(&self, late: LateAnswer<'_>) {
        let LateAnswer {
            provider,
            model,
            tokens,
        } = late;
        self.counters.answered_too_late(tokens);
        metrics::tokens(&self.program, (provider, model), TokenFate::Late, tokens);
    }
}
