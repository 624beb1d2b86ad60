//! The counters of a host. Each is an atomic: a reader takes no lock and no GIL.

use std::sync::Arc;

use super::{
    abandoned_threads::AbandonedThreads,
    count::{Count, Gauge},
};
use crate::call::{LmCall, LmOutcome, Usage, record::Totals};

/// The counters of one host.
#[derive(Debug)]
pub(crate) struct HostCounters {
    pub(crate) submitted: Count,
    pub(crate) started: Count,
    /// Calls whose work has ended, started or not.
    pub(crate) settled: Count,
    /// Calls that were settled without having been started.
    pub(crate) never_started: Count,
    pub(crate) cancelled: Count,
    pub(crate) strays: Count,
    /// Calls whose caller has the outcome while their work goes on.
    pub(crate) orphans: Gauge,
    /// HTTP requests of programs that are no LM calls.
    pub(crate) http_requests: Count,
    /// LM exchanges under way.
    pub(crate) in_lm_calls: Gauge,
    pub(crate) abandoned_threads: AbandonedThreads,
    // Shared by itself: the account of a call adds to it and may outlive the host.
    pub(crate) lm: Arc<LmCounters>,
}

impl HostCounters {
    /// The counters of a host that may have `max_abandoned` threads abandoned at once.
    pub(crate) fn new(max_abandoned: usize) -> Self {
        Self {
            submitted: Count::default(),
            started: Count::default(),
            settled: Count::default(),
            never_started: Count::default(),
            cancelled: Count::default(),
            strays: Count::default(),
            orphans: Gauge::default(),
            http_requests: Count::default(),
            in_lm_calls: Gauge::default(),
            abandoned_threads: AbandonedThreads::new(max_abandoned),
            lm: Arc::default(),
        }
    }
}

/// What LM calls came to and cost, of all calls and of what calls none.
#[derive(Debug, Default)]
pub(crate) struct LmCounters {
    pub(crate) answered: Count,
    pub(crate) elapsed: Count,
    pub(crate) cancelled: Count,
    pub(crate) refused: Count,
    pub(crate) failed: Count,
    pub(crate) bypassed: Count,
    pub(crate) prompt_tokens: Count,
    pub(crate) completion_tokens: Count,
    pub(crate) total_tokens: Count,
    pub(crate) late_tokens: Count,
    pub(crate) wasted_tokens: Count,
    pub(crate) partials: Count,
}

impl Totals for LmCounters {
    fn lm_call_ended(&self, call: &LmCall) {
        let outcomes = match call.outcome {
            LmOutcome::Answered => &self.answered,
            LmOutcome::Elapsed => &self.elapsed,
            LmOutcome::Cancelled => &self.cancelled,
            LmOutcome::Refused => &self.refused,
            LmOutcome::Failed => &self.failed,
        };
        outcomes.add(1);
        self.counted_by_dspy(call.usage());
    }

    fn counted_by_dspy(&self, usage: Usage) {
        self.prompt_tokens.add(usage.prompt_tokens);
        self.completion_tokens.add(usage.completion_tokens);
        self.total_tokens.add(usage.total_tokens);
    }

    fn answered_too_late(&self, tokens: u64) {
        self.late_tokens.add(tokens);
    }
}
