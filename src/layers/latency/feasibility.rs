//! Whether the time left is enough for a call.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{Latency, Percentile};
use crate::call::{CallId, CallTag, Limit};

/// What a layer with a limit does about calls that have less time left than such calls take: it
/// counts them where it has a latency, and rejects them where it is told to.
///
/// The count is shared by all services that one layer makes, and by their clones.
#[derive(Clone, Debug)]
pub(in crate::layers) struct Feasibility {
    expected: Option<Arc<ExpectedLatency>>,
    rejects: bool,
}

#[derive(Debug)]
struct ExpectedLatency {
    latency: Latency,
    percentile: Percentile,
    seen: AtomicU64,
}

impl Feasibility {
    /// Without a latency.
    pub(in crate::layers) const UNKNOWN: Self = Self {
        expected: None,
        rejects: false,
    };

    pub(in crate::layers) fn expect(&mut self, latency: Latency, percentile: Percentile) {
        self.expected = Some(Arc::new(ExpectedLatency {
            latency,
            percentile,
            seen: AtomicU64::new(0),
        }));
    }

    pub(in crate::layers) const fn reject(&mut self) {
        self.rejects = true;
    }

    /// Whether a call under `limit` is rejected: one that is too late always is.
    #[inline]
    pub(in crate::layers) fn rejects(&self, limit: &Limit, tag: CallTag) -> bool {
        if limit.was_past() {
            return true;
        }
        let Some(expected) = &self.expected else {
            return false;
        };
        let left = limit.at.remaining_at(limit.since);
        let takes = expected.latency.percentile(expected.percentile);
        let Some(takes) = takes.filter(|takes| left < *takes) else {
            return false;
        };
        expected.seen.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(
            target: "tower_dspy",
            call_id = tag.call.map(CallId::get),
            attempt = tag.attempt,
            ?left,
            ?takes,
            rejected = self.rejects,
            "a call has less time left than such calls take",
        );
        self.rejects
    }

    /// How many calls had too little time.
    pub(in crate::layers) fn seen(&self) -> u64 {
        let seen = |expected: &Arc<ExpectedLatency>| expected.seen.load(Ordering::Relaxed);
        self.expected.as_ref().map_or(0, seen)
    }
}
