//! The counters of a host.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    lm_table::{LmStats, LmTable},
    orphans::{OrphanGuard, Orphans},
    stats::HostStats,
};
use crate::call::{Cost, LmCall, LmOutcome, Usage, Usd};

/// The totals of a host that are counters of metrics.
#[cfg(feature = "metrics")]
pub(crate) type EmittedTotals = [u64; 5];

/// The counters of one host. The lock is held for an addition or a copy, never for Python code.
#[derive(Debug)]
pub(crate) struct HostCounters {
    /// All but what the queue knows.
    stats: Mutex<HostStats>,
    lms: LmTable,
    orphans: Arc<Orphans>,
    /// What counters of metrics have been told of `stats`.
    #[cfg(feature = "metrics")]
    emitted: Mutex<EmittedTotals>,
    max_abandoned: usize,
}

impl HostCounters {
    /// The counters of a host that may have `max_abandoned` threads abandoned at once.
    pub(crate) fn new(max_abandoned: usize) -> Arc<Self> {
        Arc::new(Self {
            stats: Mutex::default(),
            lms: LmTable::default(),
            orphans: Arc::default(),
            #[cfg(feature = "metrics")]
            emitted: Mutex::default(),
            max_abandoned,
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, HostStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The LM calls by provider and model.
    pub(crate) fn lm_stats(&self) -> Vec<LmStats> {
        self.lms.stats()
    }

    /// Counts up in a field, and down again when the guard is dropped.
    #[must_use]
    pub(crate) fn gauge(self: &Arc<Self>, field: HostField) -> GaugeGuard {
        *field(&mut self.lock()) += 1;
        GaugeGuard {
            counters: self.clone(),
            field,
        }
    }

    /// Counts a call as an orphan, until the guard is dropped.
    #[must_use]
    pub(super) fn orphan(self: &Arc<Self>) -> (GaugeGuard, OrphanGuard) {
        let count = self.gauge(|stats| &mut stats.orphans);
        (count, self.orphans.enter())
    }

    /// How long the oldest orphan is one; zero without one.
    pub(super) fn orphan_age(&self) -> Duration {
        self.orphans.oldest()
    }

    /// What these totals have grown by since the last time, so that metrics count each unit once.
    #[cfg(feature = "metrics")]
    pub(crate) fn growth(&self, totals: EmittedTotals) -> EmittedTotals {
        let mut emitted = self.emitted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut growth = EmittedTotals::default();
        for (of, (total, emitted)) in growth.iter_mut().zip(totals.iter().zip(emitted.iter_mut())) {
            *of = total.saturating_sub(*emitted);
            *emitted = (*emitted).max(*total);
        }
        growth
    }

    /// Counts a thread that did not stop within its grace as abandoned, until the guard is dropped.
    pub(crate) fn abandon_thread(self: &Arc<Self>, replaced: bool) -> GaugeGuard {
        // Under one lock, so that no reader sees one count without the other.
        let abandoned = {
            let mut stats = self.lock();
            stats.replaced += u64::from(replaced);
            stats.abandoned += 1;
            stats.abandoned
        };
        let guard = GaugeGuard {
            counters: self.clone(),
            field: |stats| &mut stats.abandoned,
        };
        tracing::warn!(
            target: "tower_dspy",
            abandoned,
            replaced,
            "a thread did not stop within its grace and was given up; its call stays in flight"
        );
        guard
    }

    /// The number of abandoned threads, if no more may be.
    pub(crate) fn exhausted(&self) -> Option<u64> {
        let abandoned = self.lock().abandoned;
        (abandoned > 0 && abandoned >= self.max_abandoned as u64).then_some(abandoned)
    }
}

/// A field of the counters that goes up and down.
type HostField = fn(&mut HostStats) -> &mut u64;

/// One count in a field.
pub(crate) struct GaugeGuard {
    counters: Arc<HostCounters>,
    field: HostField,
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        *(self.field)(&mut self.counters.lock()) -= 1;
    }
}

/// What LM calls came to, and cost.
impl HostCounters {
    pub(super) fn lm_call_begun(&self, call: &LmCall) {
        self.lms.begun(call);
    }

    pub(super) fn lm_call_ended(&self, call: &LmCall) {
        self.lms.ended(call);
        let lm = &mut self.lock().lm;
        *match call.outcome {
            LmOutcome::Answered => &mut lm.answered,
            LmOutcome::Elapsed => &mut lm.elapsed,
            LmOutcome::Cancelled => &mut lm.cancelled,
            LmOutcome::Refused => &mut lm.refused,
            LmOutcome::Failed => &mut lm.failed,
        } += 1;
        lm.usage.add(call.usage());
        lm.cost.add(Cost::of(call));
    }

    pub(super) fn counted_by_dspy(&self, call: &LmCall, usage: Usage, before: Cost) {
        self.lms.counted_by_dspy(call, usage.total_tokens, before);
        let lm = &mut self.lock().lm;
        lm.usage.add(usage);
        lm.cost.replace(before, Cost::of(call));
    }

    /// These tokens of an attempt are wasted: it came to no answer.
    pub(super) fn wasted(&self, provider: &Arc<str>, model: &Arc<str>, tokens: u64) {
        self.lms.wasted(provider, model, tokens);
    }

    /// A provider was asked to abort an LM call.
    pub(super) fn abort_ended(&self, is_accepted: bool) {
        let lm = &mut self.lock().lm;
        *match is_accepted {
            true => &mut lm.aborts,
            false => &mut lm.aborts_failed,
        } += 1;
    }

    pub(super) fn answered_too_late(&self, tokens: u64, usd: Usd) {
        let lm = &mut self.lock().lm;
        lm.late_tokens = lm.late_tokens.saturating_add(tokens);
        lm.late_usd = lm.late_usd + usd;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_of_tokens_stops_at_its_greatest() {
        let counters = HostCounters::new(0);
        counters.answered_too_late(u64::MAX - 1, Usd::ZERO);
        assert_eq!(counters.lock().lm.late_tokens, u64::MAX - 1);
        counters.answered_too_late(7, Usd::ZERO);
        assert_eq!(counters.lock().lm.late_tokens, u64::MAX);
    }

    #[cfg(feature = "metrics")]
    #[test]
    fn each_unit_of_a_total_is_counted_once() {
        let counters = HostCounters::new(0);
        assert_eq!(counters.growth([3, 0, 0, 0, 7]), [3, 0, 0, 0, 7]);
        assert_eq!(counters.growth([5, 1, 0, 0, 7]), [2, 1, 0, 0, 0]);
        // An earlier reading that comes late.
        assert_eq!(counters.growth([4, 1, 0, 0, 7]), [0; 5]);
        assert_eq!(counters.growth([6, 1, 0, 0, 7]), [1, 0, 0, 0, 0]);
    }

    #[test]
    fn a_gauge_counts_the_guards_that_are_alive() {
        let counters = HostCounters::new(0);
        let gauge = || counters.gauge(|stats| &mut stats.orphans);
        let (first, second) = (gauge(), gauge());
        assert_eq!(counters.lock().orphans, 2);
        drop(first);
        assert_eq!(counters.lock().orphans, 1);
        drop((gauge(), second));
        assert_eq!(counters.lock().orphans, 0);
    }

    #[test]
    fn threads_are_exhausted_while_as_many_as_may_be_are_abandoned() {
        let counters = HostCounters::new(2);
        assert_eq!(counters.exhausted(), None);
        let first = counters.abandon_thread(true);
        assert_eq!(counters.exhausted(), None);
        let _second = counters.abandon_thread(false);
        assert_eq!(counters.exhausted(), Some(2));
        drop(first);
        assert_eq!((counters.exhausted(), counters.lock().abandoned), (None, 1));
        assert_eq!(counters.lock().replaced, 1);
    }

    #[test]
    fn a_host_that_may_abandon_none_is_not_exhausted_before_one_is() {
        let counters = HostCounters::new(0);
        assert_eq!(counters.exhausted(), None);
        let _one = counters.abandon_thread(false);
        assert_eq!(counters.exhausted(), Some(1));
    }
}
