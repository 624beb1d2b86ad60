//! What the host counts. Each is a plain atomic: reading them takes no lock and no GIL.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use super::{clock::Moment, inbox::Inbox};
use crate::call::{LmCall, LmOutcome, Usage, record::Totals};

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) submitted: Count,
    pub(crate) started: Count,
    /// Started or not, a call is settled once.
    pub(crate) settled: Count,
    /// Settled without ever having been started.
    pub(crate) never_started: Count,
    pub(crate) cancelled: Count,
    pub(crate) strays: Count,
    /// Calls whose outcome is out while their work goes on.
    pub(crate) orphans: Gauge,
    /// HTTP requests of programs that are no LM calls.
    pub(crate) http_requests: Count,
    /// LM exchanges under way.
    pub(crate) in_lm_calls: Gauge,
    /// Threads that were given up and still work.
    pub(crate) abandoned: Gauge,
    /// Threads that took the place of an abandoned one.
    pub(crate) replaced: Count,
    /// Of the oldest queued call, about: when it was queued.
    pub(crate) queue_head: Moment,
    /// The loop's heartbeat.
    pub(crate) beat: Moment,
    /// The last time a command or an outcome crossed between Rust and Python.
    pub(crate) crossing: Moment,
}

/// Counts an LM exchange for as long as it lives, however that ends.
pub(crate) struct UnderWay(Arc<Inbox>);

impl UnderWay {
    pub(crate) fn new(inbox: Arc<Inbox>) -> Self {
        inbox.counters.in_lm_calls.up();
        Self(inbox)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.counters.in_lm_calls.down();
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

/// Only ever goes up.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds `n`, up to the greatest number; returns what it was before.
    pub(crate) fn add(&self, n: u64) -> u64 {
        let add = |count: u64| Some(count.saturating_add(n));
        let added = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        added.unwrap_or_else(|count| count)
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down. The two may pass each other on two threads, so it may dip below zero within.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    pub(crate) fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn down(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        u64::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_stops_at_its_greatest() {
        let count = Count::default();
        assert_eq!(count.add(u64::MAX - 1), 0);
        assert_eq!(count.add(7), u64::MAX - 1);
        assert_eq!(count.get(), u64::MAX);
    }
}
