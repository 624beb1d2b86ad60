//! The record of one call: what its attempts did, when, and what they spent.
//!
//! Invariants:
//! 1. All attempts of a call write into one record, those that run beside each other too.
//! 2. An attempt is closed once, when its outcome is out. LM calls that are under way then are
//!    recorded as ended by it. What comes later changes no cost; only the settlement is still
//!    recorded.
//! 3. A call is settled when it is answered and no attempt of it is at work. A layer that tracks a
//!    further attempt of an answered call, as one inside a retry does, opens it again.
//! 4. The record is bounded: LM calls beyond the first 256, and attempts that are over beyond 32, are
//!    counted and not kept.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use serde_json::{Map, Value};
use tokio::{sync::Notify, time::Instant};

use super::{
    LmCall, attempt_state::AttemptState, blocks::BlockRecord, timeline::AttemptKind,
    tools::ToolRecords, tracked_state::TrackedRecord,
};
use crate::call::{CallId, Cost, Usage};

/// What a call that has no answer had spent until it ended: a snapshot, taken when the call ended.
///
/// It rides on the error: [`Error::spent`](crate::Error::spent),
/// [`Elapsed::spent`](crate::Elapsed::spent), [`Cancelled::spent`](crate::Cancelled::spent), and
/// [`Spent::of`] for any other error that wraps one of them.
///
/// # What it covers
/// The whole call. All its attempts write into one record. Where attempts follow each other, in a
/// retry layer or as a fallback, each error has the costs of all attempts up to it; of two hedged
/// attempts the error that is returned has the costs of both. A foreign layer that drops the call,
/// such as tower's `Timeout`, does not ask; totals over all calls are in `HostStats`.
///
/// What a foreign service alone put onto its errors is added up where their type is
/// [`Error`](crate::Error) or [`BoxError`](tower::BoxError).
///
/// LM calls that were under way when the call ended are among them, ended by that; their tokens are
/// those that the provider had told until then, so what it bills may be more.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use tower_dspy::{Elapsed, Scope, Spent, Stage};
///
/// # let mut spent = Spent::default();
/// # spent.usage.total_tokens = 21;
/// # let elapsed = Elapsed::new(Scope::Deadline, Stage::Running, Duration::from_secs(4))
/// #     .with_spent(Arc::new(spent));
/// if let Some(spent) = elapsed.spent() {
///     println!("{} tokens for nothing", spent.usage.total_tokens);
/// }
/// # assert_eq!(elapsed.spent().unwrap().usage.total_tokens, 21);
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Spent {
    /// The tokens of all LM calls, as far as the provider told them in time.
    pub usage: Usage,
    /// What these LM calls cost, by the prices of their LMs.
    pub cost: Cost,
    /// The LM calls, in the order in which they ended: a bounded number of them.
    pub lm_calls: Vec<LmCall>,
    /// How many LM calls there were beyond those in `lm_calls`.
    pub lm_calls_not_kept: u64,
    /// How many LM calls the program made past the host, by a client that it does not carry. They are
    /// neither in `lm_calls` nor in `usage`.
    pub lm_calls_bypassed: u64,
    /// The last partial answer that the program gave, whole; fields of its outputs.
    pub partial: Option<Map<String, Value>>,
    /// How many steps the program had done: the times that one of its predictors asked an LM and
    /// got the answer.
    pub steps: u32,
    /// The record that this is a reading of.
    pub(crate) record: Option<Arc<CallRecord>>,
    /// The id of the call that this error ended.
    pub(crate) call_id: Option<CallId>,
    /// The id that it had on the server which ran it, if that was another one.
    pub(crate) remote_call_id: Option<CallId>,
}

impl Spent {
    /// Whether this says nothing but the ids of the call.
    pub(crate) fn is_only_ids(&self) -> bool {
        let has_id = self.call_id.is_some() || self.remote_call_id.is_some();
        has_id && self.record.is_none() && self.is_nothing()
    }

    /// Whether nothing was spent: no LM call, no step done, no partial answer.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.lm_calls.is_empty()
            && self.lm_calls_not_kept == 0
            && self.lm_calls_bypassed == 0
            && self.partial.is_none()
            && self.steps == 0
            && self.usage == Usage::default()
    }

    /// Adds what `other` says, and keeps at most `most` LM calls.
    pub(crate) fn add(&mut self, other: &Self, most: usize) {
        self.usage.add(other.usage);
        self.cost.add(other.cost);
        let room = most.saturating_sub(self.lm_calls.len());
        let calls = other.lm_calls.iter().take(room);
        self.lm_calls.extend(calls.cloned());
        self.lm_calls
            .sort_by_key(|call| call.started + call.duration);
        let beyond = other.lm_calls.len().saturating_sub(room) as u64;
        self.lm_calls_not_kept += other.lm_calls_not_kept + beyond;
        self.lm_calls_bypassed += other.lm_calls_bypassed;
        self.partial = other.partial.clone().or_else(|| self.partial.take());
        self.steps = self.steps.saturating_add(other.steps);
        self.remote_call_id = other.remote_call_id.or(self.remote_call_id);
    }
}

impl PartialEq for Spent {
    fn eq(&self, other: &Self) -> bool {
        let counts = |spent: &Self| {
            (
                spent.usage,
                spent.cost,
                spent.lm_calls_not_kept,
                spent.lm_calls_bypassed,
                spent.steps,
            )
        };
        counts(self) == counts(other)
            && self.lm_calls == other.lm_calls
            && self.partial == other.partial
    }
}

/// Counts the LM calls and names the fields: an answer must not reach a log by accident.
impl fmt::Debug for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partial = self.partial.as_ref();
        let mut debug = f.debug_struct("Spent");
        let ids = [
            ("call_id", self.call_id),
            ("remote_call_id", self.remote_call_id),
        ];
        for (name, id) in ids {
            if let Some(id) = id {
                debug.field(name, &id.get());
            }
        }
        debug
            .field("usage", &self.usage)
            .field("cost", &self.cost)
            .field("lm_calls", &self.lm_calls.len())
            .field("lm_calls_not_kept", &self.lm_calls_not_kept)
            .field("lm_calls_bypassed", &self.lm_calls_bypassed)
            .field(
                "partial",
                &partial.map(|fields| fields.keys().collect::<Vec<_>>()),
            )
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

/// The record of one call. It travels in the call's context, and on its errors.
pub(crate) struct CallRecord {
    pub(super) arrival: Instant,
    pub(super) arrived: SystemTime,
    state: Mutex<RecordState>,
    /// Notified whenever nothing of the call is under way any more.
    pub(super) settled: Notify,
}

#[derive(Default)]
pub(super) struct RecordState {
    pub(super) costs: Costs,
    /// In the order in which they began. Of those that are over a bounded number is kept.
    pub(super) attempts: Vec<AttemptState>,
    pub(super) attempts_not_kept: u64,
    /// How many attempts there were, those that are not kept too.
    begun_in_all: u64,
    pub(super) tools: ToolRecords,
    pub(super) blocks: Vec<BlockRecord>,
    /// Tokens of LM calls that were answered after the end of their attempt.
    pub(super) late_tokens: u64,
    /// How many attempts retry layers have begun.
    begun: u32,
    /// How many attempts services have written into it.
    #[cfg(feature = "_host")]
    written: usize,
    pub(super) call: TrackedRecord,
}

/// What all attempts have spent.
#[derive(Default)]
pub(super) struct Costs {
    pub(super) spent: Spent,
    /// How many LM calls are kept.
    pub(super) most: usize,
    /// Of attempts that came to no answer.
    #[cfg(feature = "lm")]
    pub(super) wasted_tokens: u64,
    /// From when the times of the LM calls count: when the first attempt was queued.
    #[cfg(feature = "lm")]
    pub(super) origin: Option<Instant>,
}

impl CallRecord {
    /// How many LM calls a record keeps.
    pub(crate) const MOST: usize = 256;
    /// How many attempts that are over a record keeps.
    const MOST_ATTEMPTS: usize = 32;

    pub(crate) fn open() -> Arc<Self> {
        Self::keeping(Self::MOST)
    }

    /// A record that keeps the first `most` LM calls.
    pub(crate) fn keeping(most: usize) -> Arc<Self> {
        let state = RecordState {
            costs: Costs {
                most,
                ..Costs::default()
            },
            ..RecordState::default()
        };
        Arc::new(Self {
            arrival: Instant::now(),
            arrived: SystemTime::now(),
            state: Mutex::new(state),
            settled: Notify::new(),
        })
    }

    /// Adopts the record that `spent` was read from. An open record that is another one stays, and gets
    /// these costs added.
    pub(crate) fn follow(record: &mut Option<Arc<Self>>, spent: &Spent) {
        match (&*record, &spent.record) {
            (Some(mine), Some(theirs)) if Arc::ptr_eq(mine, theirs) => {}
            (None, Some(theirs)) => *record = Some(theirs.clone()),
            _ => record.get_or_insert_with(Self::open).add(spent),
        }
    }

    /// A retry layer begins the attempt that `number` others came before.
    pub(crate) fn begin_attempt(&self, number: u32) {
        let kind = match number {
            0 => AttemptKind::First,
            _ => AttemptKind::Retry,
        };
        let mut state = self.lock();
        state.begun = state.begun.max(number.saturating_add(1));
        state.add_attempt(number, kind);
    }

    /// A layer begins an attempt beside another one, or in its place.
    pub(crate) fn begin_other_attempt(&self, number: u32, kind: AttemptKind) {
        self.lock().add_attempt(number, kind);
    }

    /// How many attempts retry layers have begun.
    pub(crate) fn attempts(&self) -> u32 {
        self.lock().begun
    }

    /// How many attempts services have written into it.
    #[cfg(feature = "_host")]
    pub(crate) fn written(&self) -> usize {
        self.lock().written
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

    /// Queues the attempt that `number` others came before: the attempt that a layer has begun, or else a
    /// new one. Returns its key.
    #[cfg(feature = "lm")]
    pub(super) fn attempt(&self, number: u32) -> u64 {
        let mut state = self.lock();
        let now = Instant::now();
        state.costs.origin.get_or_insert(now);
        #[cfg(feature = "_host")]
        {
            state.written += 1;
        }
        let is_free = |attempt: &&mut AttemptState| {
            attempt.stages.number == number && attempt.stages.queued.is_none()
        };
        if let Some(begun) = state.attempts.iter_mut().rfind(is_free) {
            begun.stages.queued = Some(now);
            return begun.key;
        }
        let added = state.add_attempt(number, AttemptKind::First);
        added.stages.queued = Some(now);
        added.key
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, RecordState> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RecordState {
    fn add_attempt(&mut self, number: u32, kind: AttemptKind) -> &mut AttemptState {
        self.forget_attempts(1);
        let kind = match kind {
            AttemptKind::First if self.attempts.is_empty() => AttemptKind::First,
            AttemptKind::First if !self.call.fell_back => AttemptKind::Retry,
            AttemptKind::First => AttemptKind::Fallback,
            kind => kind,
        };
        let index = self.attempts.len();
        if index == 0 {
            // Most calls have one.
            self.attempts.reserve_exact(1);
        }
        self.begun_in_all += 1;
        self.attempts
            .push(AttemptState::new(self.begun_in_all, number, kind));
        &mut self.attempts[index]
    }

    /// Makes room for `more` attempts, as far as enough are over.
    fn forget_attempts(&mut self, more: usize) {
        while self.attempts.len() + more > CallRecord::MOST_ATTEMPTS {
            // The first one stays: it shows how the call began.
            let over = self.attempts.iter().skip(1).position(AttemptState::is_over);
            let Some(index) = over else { return };
            self.attempts.remove(index + 1);
            self.attempts_not_kept += 1;
        }
    }

    #[cfg(feature = "lm")]
    pub(super) fn attempt_of(&mut self, key: u64) -> Option<(&mut AttemptState, &mut Costs)> {
        let attempt = self
            .attempts
            .iter_mut()
            .rfind(|attempt| attempt.key == key)?;
        Some((attempt, &mut self.costs))
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
