//! The LM calls of a host by provider and model.
//!
//! Invariant: a call is in one row, from its begin to its end, for its provider and model do not
//! change and no row is ever taken out.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    call::{Cost, LmCall, LmOutcome},
    layers::latency::{Latency, Percentile},
};

/// How many models there are at most: calls of others are in the row of `OTHER`.
const MOST_NAMES: usize = 64;
const OTHER: &str = "other";
/// The percentiles are those of this time at most, and of half of it at least.
const WINDOW: Duration = Duration::from_secs(600);

/// The LM calls of a host to one model, since it was started; from
/// [`Host::lm_stats`](crate::Host::lm_stats).
///
/// An LM call is one HTTP exchange: each attempt of a retry layer of the LM counts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LmStats {
    /// The provider, as in the LM's name; `other` for all models past the first 64.
    pub provider: Arc<str>,
    /// The model, as the provider knows it; `other` for all models past the first 64.
    pub model: Arc<str>,
    /// LM calls under way.
    pub in_flight: u64,
    /// The time from when the request was sent to the head of the answer, which half of the LM calls
    /// of the last 5 to 10 minutes did not exceed; `None` before the first of them.
    pub first_byte_p50: Option<Duration>,
    /// The same for 99 of 100.
    pub first_byte_p99: Option<Duration>,
    /// LM calls whose whole answer came, whatever its status.
    pub answered: u64,
    /// LM calls that were answered with status 429: the provider refused for want of capacity or
    /// quota.
    pub too_many_requests: u64,
    /// LM calls that were answered with a status of 500 or more.
    pub server_errors: u64,
    /// LM calls that a limit of time, or the deadline of their call, ended.
    pub elapsed: u64,
    /// LM calls that ended with their cancelled call.
    pub cancelled: u64,
    /// LM calls that were not sent at all.
    pub refused: u64,
    /// LM calls that failed without an answer, or in the middle of one.
    pub failed: u64,
    /// Tokens, as far as the provider reported them before the call was over.
    pub tokens: u64,
    /// Of these tokens, those of attempts at a program that came to no answer.
    pub wasted_tokens: u64,
    /// What the LM calls cost.
    pub cost: Cost,
}

/// The rows of a host.
#[derive(Debug, Default)]
pub(super) struct LmTable(Mutex<BTreeMap<LmName, LmRow>>);

/// The provider and the model.
type LmName = (Arc<str>, Arc<str>);

#[derive(Debug)]
struct LmRow {
    stats: LmStats,
    first_byte: Latency,
}

impl LmRow {
    fn new((provider, model): LmName) -> Self {
        let stats = LmStats {
            provider,
            model,
            in_flight: 0,
            first_byte_p50: None,
            first_byte_p99: None,
            answered: 0,
            too_many_requests: 0,
            server_errors: 0,
            elapsed: 0,
            cancelled: 0,
            refused: 0,
            failed: 0,
            tokens: 0,
            wasted_tokens: 0,
            cost: Cost::default(),
        };
        Self {
            stats,
            first_byte: Latency::new(WINDOW).with_min_samples(1),
        }
    }

    fn ended(&mut self, call: &LmCall) {
        let stats = &mut self.stats;
        stats.in_flight = stats.in_flight.saturating_sub(1);
        *match call.outcome {
            LmOutcome::Answered => &mut stats.answered,
            LmOutcome::Elapsed => &mut stats.elapsed,
            LmOutcome::Cancelled => &mut stats.cancelled,
            LmOutcome::Refused => &mut stats.refused,
            LmOutcome::Failed => &mut stats.failed,
        } += 1;
        let tokens = call.usage().total_tokens;
        stats.tokens = stats.tokens.saturating_add(tokens);
        stats.cost.add(Cost::of(call));
        match call.status {
            Some(429) => stats.too_many_requests += 1,
            Some(500..) => stats.server_errors += 1,
            _ => {}
        }
        if let Some(first_byte) = call.first_byte {
            let sent = call.sent.unwrap_or(call.started);
            self.first_byte.record(first_byte.saturating_sub(sent));
        }
    }

    fn stats(&self) -> LmStats {
        LmStats {
            first_byte_p50: self.first_byte.percentile(Percentile::P50),
            first_byte_p99: self.first_byte.percentile(Percentile::P99),
            ..self.stats.clone()
        }
    }
}

impl LmTable {
    pub(super) fn begun(&self, call: &LmCall) {
        self.update(&call.provider, &call.model, |row| row.stats.in_flight += 1);
    }

    pub(super) fn ended(&self, call: &LmCall) {
        self.update(&call.provider, &call.model, |row| row.ended(call));
    }

    /// DSPy found these tokens in the answer to an LM call that has ended and had none.
    pub(super) fn counted_by_dspy(&self, call: &LmCall, tokens: u64, before: Cost) {
        self.update(&call.provider, &call.model, |row| {
            row.stats.tokens = row.stats.tokens.saturating_add(tokens);
            row.stats.cost.replace(before, Cost::of(call));
        });
    }

    /// These tokens of an attempt are wasted: it came to no answer.
    pub(super) fn wasted(&self, provider: &Arc<str>, model: &Arc<str>, tokens: u64) {
        self.update(provider, model, |row| {
            row.stats.wasted_tokens = row.stats.wasted_tokens.saturating_add(tokens);
        });
    }

    /// A reading of each row, by provider and model.
    pub(super) fn stats(&self) -> Vec<LmStats> {
        self.lock().values().map(LmRow::stats).collect()
    }

    fn update(&self, provider: &Arc<str>, model: &Arc<str>, update: impl FnOnce(&mut LmRow)) {
        let mut rows = self.lock();
        let mut name = (provider.clone(), model.clone());
        if !rows.contains_key(&name) && rows.len() >= MOST_NAMES {
            name = (OTHER.into(), OTHER.into());
        }
        let row = rows.entry(name);
        update(row.or_insert_with_key(|name| LmRow::new(name.clone())));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LmName, LmRow>> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(model: &str, outcome: LmOutcome) -> LmCall {
        LmCall::new("openai", model, outcome)
    }

    #[test]
    fn a_row_counts_the_outcomes_and_tokens_of_its_model() {
        let table = LmTable::default();
        let answered = LmCall {
            sent: Some(Duration::from_millis(100)),
            first_byte: Some(Duration::from_millis(400)),
            status: Some(200),
            total_tokens: Some(21),
            ..call("a", LmOutcome::Answered)
        };
        let refused = LmCall {
            status: Some(429),
            ..call("a", LmOutcome::Answered)
        };
        let broken_off = LmCall {
            total_tokens: Some(7),
            status: Some(503),
            ..call("a", LmOutcome::Cancelled)
        };
        for call in [&answered, &refused, &broken_off, &answered] {
            table.begun(call);
        }
        table.begun(&call("b", LmOutcome::Cancelled));
        for call in [&answered, &refused, &broken_off] {
            table.ended(call);
        }
        table.wasted(&broken_off.provider, &broken_off.model, 7);
        table.counted_by_dspy(&refused, 2, Cost::of(&refused));
        let [a, b] = table.stats().try_into().expect("two rows");
        assert_eq!((&*a.model, &*b.model), ("a", "b"));
        assert_eq!((a.in_flight, b.in_flight), (1, 1));
        assert_eq!((a.answered, a.cancelled), (2, 1));
        assert_eq!((a.too_many_requests, a.server_errors), (1, 1));
        assert_eq!((a.tokens, a.wasted_tokens), (30, 7));
        let p50 = a.first_byte_p50.expect("one was measured");
        assert!(p50 >= Duration::from_millis(300) && p50 < Duration::from_millis(304));
        assert_eq!(b.first_byte_p50, None);
    }

    #[test]
    fn models_past_the_first_ones_share_a_row() {
        let table = LmTable::default();
        for n in 0..10 * MOST_NAMES {
            let call = call(&n.to_string(), LmOutcome::Failed);
            table.begun(&call);
            table.ended(&call);
        }
        let stats = table.stats();
        assert_eq!(stats.len(), MOST_NAMES + 1);
        let failed: u64 = stats.iter().map(|lm| lm.failed).sum();
        assert_eq!(failed, 10 * MOST_NAMES as u64);
        assert!(stats.iter().all(|lm| lm.in_flight == 0));
    }
}
