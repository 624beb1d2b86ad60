//! The record of one call: what its attempts did, when, and what they spent.
//!
//! Invariants:
//! 1. All attempts of a call write into one record, those that run beside each other too.
//! 2. An attempt is closed once, when its outcome is out. LM calls that are under way then are
//!    recorded as ended by it. What comes later changes no cost; only the settlement is still
//!    recorded.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use super::{
    LmCall, Spent,
    timeline::{AttemptTimeline, Timeline},
};
#[cfg(feature = "lm")]
use super::{LmOutcome, attempt::OpenLmCall};
#[cfg(feature = "lm")]
use crate::call::Usage;
use crate::call::drop_scope;

/// The record of one call. It travels in the call's context, and on its errors.
pub(crate) struct CallRecord {
    opened: Instant,
    state: Mutex<RecordState>,
}

#[derive(Default)]
pub(super) struct RecordState {
    pub(super) costs: Costs,
    pub(super) attempts: Vec<AttemptState>,
    /// How many attempts retry layers have begun.
    begun: u32,
}

/// What all attempts have spent.
#[derive(Default)]
pub(super) struct Costs {
    pub(super) spent: Spent,
    /// How many LM calls are kept.
    pub(super) most: usize,
    /// From when the times of the LM calls count: when the first attempt was queued.
    #[cfg(feature = "lm")]
    pub(super) origin: Option<Instant>,
}

/// One attempt, as far as only this attempt writes it.
pub(super) struct AttemptState {
    pub(super) timeline: AttemptTimeline,
    /// The outcome of the LM calls that are dropped from now on.
    #[cfg(feature = "lm")]
    pub(super) stopped: Option<LmOutcome>,
    #[cfg(feature = "lm")]
    pub(super) next_id: u64,
    /// The LM calls that are under way.
    #[cfg(feature = "lm")]
    pub(super) open: Vec<OpenLmCall>,
    /// What this attempt spent of the costs.
    #[cfg(feature = "lm")]
    pub(super) usage: Usage,
    #[cfg(any(feature = "_host", all(feature = "lm", test)))]
    pub(super) partial: bool,
}

impl AttemptState {
    fn new(number: u32) -> Self {
        Self {
            timeline: AttemptTimeline::new(number, Instant::now()),
            #[cfg(feature = "lm")]
            stopped: None,
            #[cfg(feature = "lm")]
            next_id: 0,
            #[cfg(feature = "lm")]
            open: Vec::new(),
            #[cfg(feature = "lm")]
            usage: Usage::default(),
            #[cfg(any(feature = "_host", all(feature = "lm", test)))]
            partial: false,
        }
    }
}

impl CallRecord {
    /// How many LM calls a record keeps.
    pub(crate) const MOST: usize = 256;

    pub(crate) fn open() -> Arc<Self> {
        Self::keeping(Self::MOST)
    }

    /// A record that keeps the first `most` LM calls.
    pub(crate) fn keeping(most: usize) -> Arc<Self> {
        let record = Self {
            opened: Instant::now(),
            state: Mutex::default(),
        };
        record.lock().costs.most = most;
        Arc::new(record)
    }

    /// The record to go on with after an attempt that `spent` this: `record`, or the one that the
    /// attempt opened.
    pub(crate) fn follow(record: &mut Option<Arc<Self>>, spent: &Spent) {
        match (&*record, &spent.record) {
            (Some(mine), Some(theirs)) if Arc::ptr_eq(mine, theirs) => {}
            (None, Some(theirs)) => *record = Some(theirs.clone()),
            _ => record.get_or_insert_with(Self::open).add(spent),
        }
    }

    /// A retry layer begins the attempt that `number` others came before.
    pub(crate) fn begin_attempt(&self, number: u32) {
        let mut state = self.lock();
        state.begun = state.begun.max(number.saturating_add(1));
        state.attempts.push(AttemptState::new(number));
    }

    /// How many attempts retry layers have begun.
    pub(crate) fn attempts(&self) -> u32 {
        self.lock().begun
    }

    /// Adds what a service `spent` that writes into no record, or into another.
    pub(crate) fn add(&self, spent: &Spent) {
        let Costs {
            spent: sum, most, ..
        } = &mut self.lock().costs;
        sum.add(spent, *most);
    }

    /// What was spent so far; `None` if that is nothing.
    pub(crate) fn spent(self: &Arc<Self>) -> Option<Arc<Spent>> {
        let mut spent = self.read(Spent::clone);
        if spent.is_nothing() {
            return None;
        }
        spent.record = Some(self.clone());
        Some(Arc::new(spent))
    }

    /// Reads what was spent so far.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Spent) -> T) -> T {
        read(&self.lock().costs.spent)
    }

    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "pages, metrics and traces are to read it")
    )]
    pub(crate) fn timeline(&self) -> Timeline {
        let state = self.lock();
        let lm_calls: &[LmCall] = &state.costs.spent.lm_calls;
        let attempts = state.attempts.iter();
        #[cfg_attr(not(feature = "lm"), expect(unused_mut, reason = "none is under way"))]
        let mut timeline = Timeline {
            opened: self.opened,
            attempts: attempts.map(|attempt| attempt.timeline).collect(),
            lm_calls: lm_calls.to_vec(),
        };
        #[cfg(feature = "lm")]
        for attempt in &state.attempts {
            let open = attempt.open.iter().map(|open| open.call.clone());
            timeline.lm_calls.extend(open);
        }
        timeline
    }

    /// The attempt that `number` others came before, to write to: the one that a retry layer began,
    /// or a new one.
    #[cfg(feature = "lm")]
    pub(super) fn attempt(&self, number: u32) -> usize {
        let mut state = self.lock();
        let now = Instant::now();
        state.costs.origin.get_or_insert(now);
        let attempts = &mut state.attempts;
        let is_free = |attempt: &AttemptState| {
            attempt.timeline.number == number && attempt.timeline.queued.is_none()
        };
        let index = attempts.iter().rposition(is_free).unwrap_or_else(|| {
            attempts.push(AttemptState::new(number));
            attempts.len() - 1
        });
        attempts[index].timeline.queued = Some(now);
        index
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, RecordState> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CallRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("CallRecord")
            .field("spent", &state.costs.spent)
            .field("attempts", &state.attempts.len())
            .finish_non_exhaustive()
    }
}

/// The record of a call, held by a layer that makes several attempts. Reported when a layer around
/// it drops the call: that one may have got the call before there was a record.
#[derive(Debug, Default)]
pub(crate) struct ReportOnDrop(pub(crate) Option<Arc<CallRecord>>);

impl Drop for ReportOnDrop {
    fn drop(&mut self) {
        if let Some(record) = self.0.take() {
            drop_scope::report_record(record);
        }
    }
}
