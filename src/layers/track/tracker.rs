//! [`Tracker`]: the calls that are under way.
//!
//! Invariants:
//! 1. A call is entered once and leaves once, whatever races: its [`Ticket`](super::ticket::Ticket) is owned by its
//!    future, and leaving takes the entry out under the lock.
//! 2. Counts and entries change under the same lock, so that they always agree.
//! 3. No foreign code runs under the lock: a cancelled node wakes tasks, and may drop futures whose
//!    tickets take the lock.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, mem,
    sync::Arc,
};

use tokio::time::Instant;

use super::{
    snapshot::{CallCounts, CallSnapshot, CallStatus},
    ticket::End,
};
use crate::{
    call::{CallId, Cancel, Cause, Deadline, record::CallRecord},
    sync::{Mutex, MutexGuard, Notify, PoisonError},
};

/// The calls that go through one or more [`TrackLayer`](super::TrackLayer)s: which there are, how
/// far they have come, and a handle to stop them.
///
/// Clones are handles to the same calls.
///
/// A call is entered when a layer's service is called, and leaves when its future is done or
/// dropped, after what it held inside was dropped. The answer itself may hold on to something, as
/// the body of an HTTP response does: that is not seen. Neither is work that outlives the
/// call's future, such as Python code that cannot be interrupted; the host counts that.
///
/// # Cost
/// About 0.2 us a call, with 10,000 in flight too; a third of it is the call's cancellation node.
/// There is one mutex, around a tree ordered by id, locked three times in a call's life. Threads that
/// do nothing else share some 3 million calls a second, however many they are. Whoever asks for
/// [`calls`](Self::calls) copies all of them under that lock (10,000: a millisecond).
#[derive(Clone, Default)]
pub struct Tracker {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    empty: Notify,
}

/// The id comes first, so that calls are found by it. It alone would not do: a request that is
/// sent twice, as by a hedge, is two calls with one id.
pub(super) type Key = (CallId, u64);

#[derive(Default)]
struct State {
    calls: BTreeMap<Key, Entry>,
    counts: CallCounts,
    finished: VecDeque<CallSnapshot>,
    history: usize,
}

/// What is known of a call from the start.
pub(super) struct Entry {
    pub(super) label: Option<Arc<str>>,
    pub(super) since: Instant,
    pub(super) deadline: Option<Deadline>,
    /// The node that stops the call; none if the tracker may not.
    pub(super) cancel: Cancel,
    /// How many attempts an outer retry had made before.
    pub(super) before: u32,
    pub(super) record: Arc<CallRecord>,
    /// Whether a service has taken it.
    pub(super) runs: bool,
}

impl Entry {
    const fn status(&self) -> CallStatus {
        if self.runs {
            CallStatus::Running
        } else {
            CallStatus::Pending
        }
    }

    fn attempts(&self) -> u32 {
        if !self.runs {
            return 0;
        }
        let mine = self.before.saturating_add(1);
        self.record.attempts().max(mine)
    }

    fn snapshot(&self, id: CallId, status: CallStatus, now: Instant) -> CallSnapshot {
        CallSnapshot {
            id,
            label: self.label.clone(),
            status,
            stopping: self.cancel.cause(),
            attempts: self.attempts(),
            elapsed: now.saturating_duration_since(self.since),
            time_left: self.deadline.map(|deadline| deadline.remaining_at(now)),
        }
    }
}

impl Tracker {
    /// A tracker of no calls yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers the last `n` calls that ended, for whoever is on call. The default is none.
    #[must_use]
    pub fn with_history(self, n: usize) -> Self {
        {
            let mut state = self.lock();
            state.history = n;
            let surplus = state.finished.len().saturating_sub(n);
            state.finished.drain(..surplus);
        }
        self
    }

    /// The calls that are under way, the oldest id first.
    #[must_use]
    pub fn calls(&self) -> Vec<CallSnapshot> {
        let now = Instant::now();
        let state = self.lock();
        let calls = state.calls.iter();
        calls
            .map(|((id, _), entry)| entry.snapshot(*id, entry.status(), now))
            .collect()
    }

    /// The last calls that ended, the latest last; none without
    /// [`with_history`](Self::with_history).
    #[must_use]
    pub fn history(&self) -> Vec<CallSnapshot> {
        self.lock().finished.iter().cloned().collect()
    }

    /// The call with this id: the latest that is under way, else the latest in the history.
    #[must_use]
    pub fn get(&self, id: CallId) -> Option<CallSnapshot> {
        let state = self.lock();
        let mut live = state.calls.range((id, 0)..=(id, u64::MAX));
        if let Some((_, entry)) = live.next_back() {
            return Some(entry.snapshot(id, entry.status(), Instant::now()));
        }
        let mut finished = state.finished.iter().rev();
        finished.find(|call| call.id == id).cloned()
    }

    /// How many calls there were, and what became of them.
    #[must_use]
    pub fn counts(&self) -> CallCounts {
        self.lock().counts
    }

    /// Whether no call is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().calls.is_empty()
    }

    /// Waits until no call is under way.
    ///
    /// It has waited long enough once there was such a moment, though new calls may have come
    /// since.
    ///
    /// # Cancel safety
    /// Dropping the future does nothing.
    pub async fn wait_empty(&self) {
        // Made before the look: from then on it misses no notification.
        let empty = self.shared.empty.notified();
        if !self.is_empty() {
            empty.await;
        }
    }

    /// Tells the call with this id to stop, because of `cause`. Returns whether it is for this
    /// cause that it stops: not if there is no such call, if it was cancelled before, or if its
    /// layer only [observes](super::TrackLayer::observe_only).
    ///
    /// A call that is done before it notices is still answered, and then was completed.
    pub fn cancel(&self, id: CallId, cause: Cause) -> bool {
        let nodes: Vec<_> = {
            let state = self.lock();
            let calls = state.calls.range((id, 0)..=(id, u64::MAX));
            calls.map(|(_, entry)| entry.cancel.clone()).collect()
        };
        // Every one, so no short-circuit.
        nodes.iter().filter(|node| node.cancel(cause)).count() > 0
    }

    /// Tells every call that is under way to stop, as [`cancel`](Self::cancel) does, and returns
    /// how many stop because of it. Calls that come later are let through.
    pub fn cancel_all(&self, cause: Cause) -> usize {
        let nodes: Vec<_> = {
            let state = self.lock();
            let calls = state.calls.values();
            calls.map(|entry| entry.cancel.clone()).collect()
        };
        nodes.iter().filter(|node| node.cancel(cause)).count()
    }

    /// Enters a call.
    pub(super) fn enter(&self, id: CallId, entry: Entry) -> Key {
        let mut state = self.lock();
        let key = (id, state.counts.accepted);
        state.counts.accepted += 1;
        state.counts.pending += 1;
        state.calls.insert(key, entry);
        key
    }

    /// A call has been taken by a service.
    pub(super) fn runs(&self, key: Key) {
        let mut state = self.lock();
        let State { calls, counts, .. } = &mut *state;
        let Some(entry) = calls.get_mut(&key) else {
            return;
        };
        if !mem::replace(&mut entry.runs, true) {
            counts.pending -= 1;
            counts.running += 1;
        }
    }

    /// Takes a call out; `None` if it is out already.
    pub(super) fn leave(&self, key: Key, end: End) -> Option<CallSnapshot> {
        let now = Instant::now();
        let mut state = self.lock();
        let entry = state.calls.remove(&key)?;
        let counts = &mut state.counts;
        match entry.runs {
            false => counts.pending -= 1,
            true => counts.running -= 1,
        }
        let status = end.status(&entry.cancel);
        *match status {
            CallStatus::Completed => &mut counts.completed,
            CallStatus::TimedOut => &mut counts.timed_out,
            CallStatus::Cancelled { .. } => &mut counts.cancelled,
            _ => &mut counts.failed,
        } += 1;
        counts.dropped += u64::from(matches!(end, End::Dropped));
        let snapshot = entry.snapshot(key.0, status, now);
        if state.history > 0 {
            if state.finished.len() == state.history {
                state.finished.pop_front();
            }
            state.finished.push_back(snapshot.clone());
        }
        let empty = state.calls.is_empty();
        drop(state);
        if empty {
            self.shared.empty.notify_waiters();
        }
        Some(snapshot)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let locked = self.shared.state.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracker")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}
