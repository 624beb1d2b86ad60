//! Whether a call has a chance.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Latency, Percentile};
use crate::{
    call::{CallId, Limit},
    layers::guard::Tag,
};

/// What a layer with a limit does about calls that have less time left than such calls take: it
/// counts them, if it knows, and refuses them, if it is to.
///
/// The count is shared by all services that one layer makes, and by their clones.
#[derive(Clone, Debug)]
pub(in crate::layers) struct Doomed {
    learnt: Option<Arc<Learnt>>,
    refuse: bool,
}

#[derive(Debug)]
struct Learnt {
    latency: Latency,
    percentile: Percentile,
    seen: AtomicU64,
}

impl Doomed {
    /// Knows of none.
    pub(in crate::layers) const UNKNOWN: Self = Self {
        learnt: None,
        refuse: false,
    };

    pub(in crate::layers) fn learn(&mut self, latency: Latency, percentile: Percentile) {
        self.learnt = Some(Arc::new(Learnt {
            latency,
            percentile,
            seen: AtomicU64::new(0),
        }));
    }

    pub(in crate::layers) const fn refuse(&mut self, refuse: bool) {
        self.refuse = refuse;
    }

    /// Whether a call under `limit` is refused: one that is too late always is.
    #[inline]
    pub(in crate::layers) fn refuses(&self, limit: &Limit, tag: Tag) -> bool {
        limit.was_past()
            || self.learnt.as_ref().is_some_and(|learnt| {
                let left = limit.at.remaining_at(limit.since);
                learnt.dooms(left, tag, self.refuse) && self.refuse
            })
    }

    /// How many calls had too little time.
    pub(in crate::layers) fn seen(&self) -> u64 {
        let seen = |learnt: &Arc<Learnt>| learnt.seen.load(Ordering::Relaxed);
        self.learnt.as_ref().map_or(0, seen)
    }
}

impl Learnt {
    /// Whether `left` is too little; never while not enough was learnt.
    fn dooms(&self, left: Duration, tag: Tag, refused: bool) -> bool {
        let takes = self.latency.percentile(self.percentile);
        let Some(takes) = takes.filter(|takes| left < *takes) else {
            return false;
        };
        self.seen.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(
            target: "tower_dspy",
            call_id = tag.call.map(CallId::get),
            attempt = tag.attempt,
            ?left,
            ?takes,
            refused,
            "a call has less time left than such calls take",
        );
        true
    }
}
