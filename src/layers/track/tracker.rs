//! [`Tracker`]: the calls that are under way.
//!
//! Invariants:
//! 1. A call leaves once, whatever races: its future owns its
//!    [`TrackTicket`](super::ticket::TrackTicket).
//! 2. Counts, history and entries change under the lock of the registry, so that they always agree.

use std::{collections::VecDeque, fmt, mem, sync::Arc};

use tokio::time::Instant;

use super::{
    cancellation::Cancellation,
    samples::TrackSamples,
    snapshot::{CallCounts, CallSnapshot, status_of},
    unsettled::UnsettledCalls,
};
use crate::call::{
    CallEnd, CallId, CallStatus, Cancel, Cause, Deadline,
    in_flight::{InFlight, InFlightTicket},
    record::CallRecord,
};

/// The calls that go through one or more [`TrackLayer`](super::TrackLayer)s: which there are, how
/// far they have come, and a handle to stop them.
///
/// Clones are handles to the same calls.
///
/// A call is entered when a layer's service is called, and leaves when its future is done or
/// dropped, after what it held inside was dropped. The answer itself may hold on to something, as
/// the body of an HTTP response does: that is not seen. Work that outlives the call's future, such as
/// Python code that cannot be interrupted, is seen as [orphans](Self::orphans).
///
/// # Cost
/// About 0.2 us a call, with 10,000 in flight too; a third of it is the call's cancellation node.
/// There is one mutex, locked four times in a call's life. Threads that
/// do nothing else share some 3 million calls a second, however many they are. Whoever asks for
/// [`calls`](Self::calls) copies all of them under that lock (10,000: a millisecond).
#[derive(Clone, Default)]
pub struct Tracker {
    pub(super) calls: Arc<InFlight<TrackedCall, TrackAccount>>,
}

/// What became of the calls of a tracker.
#[derive(Default)]
pub(super) struct TrackAccount {
    counts: CallCounts,
    finished: VecDeque<CallSnapshot>,
    history: usize,
    pub(super) samples: TrackSamples,
    pub(super) unsettled: UnsettledCalls,
}

/// A call under way, with what is known of it from the start. A request that is sent twice, as by a
/// hedge, is two calls with one id.
#[derive(Clone)]
pub(super) struct TrackedCall {
    pub(super) id: CallId,
    pub(super) label: Option<Arc<str>>,
    pub(super) since: Instant,
    pub(super) deadline: Option<Deadline>,
    /// The node that stops the call; none if the tracker may not.
    pub(super) cancel: Cancel,
    /// How many attempts an outer retry had made before.
    pub(super) before: u32,
    pub(super) record: Arc<CallRecord>,
    /// No other layer around this one tracks the call.
    pub(super) is_outermost: bool,
    /// Whether a service has taken it.
    pub(super) runs: bool,
}

/// The place of a call in its tracker.
pub(super) type TrackEntry = InFlightTicket<TrackedCall, TrackAccount>;

impl TrackedCall {
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

    fn snapshot(&self, status: CallStatus, now: Instant) -> CallSnapshot {
        CallSnapshot {
            id: self.id,
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

    /// Remembers the last `n` calls that ended. The default is none.
    #[must_use]
    pub fn with_history(self, n: usize) -> Self {
        self.calls.inspect(|_, account| {
            account.history = n;
            let surplus = account.finished.len().saturating_sub(n);
            account.finished.drain(..surplus);
        });
        self
    }

    /// Keeps the timelines of the last `n` calls of each class of outcomes and of each class of
    /// durations, by their labels or programs. The default is none.
    ///
    /// A timeline takes about 2 KB, and up to 60 KB for a call with hundreds of LM calls.
    #[must_use]
    pub fn with_samples(self, n: usize) -> Self {
        self.keep_samples(n);
        self
    }

    pub(crate) fn keep_samples(&self, n: usize) {
        self.calls.inspect(|_, account| account.samples.most = n);
    }

    /// The calls that are under way, the oldest id first.
    #[must_use]
    pub fn calls(&self) -> Vec<CallSnapshot> {
        let now = Instant::now();
        let mut calls: Vec<_> = self.calls.inspect(|calls, _| {
            calls
                .map(|call| call.snapshot(call.status(), now))
                .collect()
        });
        calls.sort_by_key(|call| call.id);
        calls
    }

    /// The last calls that ended, the latest last; none without
    /// [`with_history`](Self::with_history).
    #[must_use]
    pub fn history(&self) -> Vec<CallSnapshot> {
        self.calls
            .inspect(|_, account| account.finished.iter().cloned().collect())
    }

    /// The call with this id: the latest that is under way, else the latest in the history.
    #[must_use]
    pub fn get(&self, id: CallId) -> Option<CallSnapshot> {
        let now = Instant::now();
        self.calls.inspect(|mut calls, account| {
            if let Some(call) = calls.rfind(|call| call.id == id) {
                return Some(call.snapshot(call.status(), now));
            }
            let mut finished = account.finished.iter().rev();
            finished.find(|call| call.id == id).cloned()
        })
    }

    /// How many calls there were, and what became of them.
    #[must_use]
    pub fn counts(&self) -> CallCounts {
        self.calls.inspect(|_, account| account.counts)
    }

    /// Whether no call is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Waits until no call is under way.
    ///
    /// It has waited long enough once there was such a moment, though new calls may have come
    /// since.
    ///
    /// # Cancel safety
    /// Dropping the future does nothing.
    pub async fn wait_empty(&self) {
        self.calls.wait_empty().await;
    }

    /// Tells the call with this id to stop, as its caller may: [`Cause::Caller`].
    ///
    /// ```
    /// # async fn example(tracker: tower_dspy::Tracker, id: tower_dspy::CallId) {
    /// let cancellation = tracker.cancel(id);
    /// if cancellation.signalled() {
    ///     cancellation.settled().await; // its clean-up code has run as well
    /// }
    /// # }
    /// ```
    pub fn cancel(&self, id: CallId) -> Cancellation {
        self.cancel_as(id, Cause::Caller)
    }

    /// Tells the call with this id to stop, because of `cause`.
    pub fn cancel_as(&self, id: CallId, cause: Cause) -> Cancellation {
        self.cancel_where(|call| call.id == id, cause).of(id)
    }

    /// Tells every call that is under way to stop, because of `cause`. Calls that come later are let
    /// through.
    pub fn cancel_all(&self, cause: Cause) -> Cancellation {
        self.cancel_where(|_| true, cause)
    }

    fn cancel_where(&self, chosen: impl Fn(&TrackedCall) -> bool, cause: Cause) -> Cancellation {
        let (calls, unsettled) = self.calls.inspect(|calls, account| {
            let chosen = calls.filter(|call| chosen(call));
            let chosen = chosen.map(|call| (call.cancel.clone(), call.record.clone()));
            (chosen.collect::<Vec<_>>(), account.unsettled.list())
        });
        // Outside of the lock: a cancelled node wakes tasks, and may drop futures.
        let signalled = calls.iter().filter(|(node, _)| node.cancel(cause)).count();
        let mut records: Vec<_> = calls.into_iter().map(|(_, record)| record).collect();
        records.extend(unsettled);
        Cancellation::new(signalled, records)
    }

    /// Enters a call. The registry of a tracker is never closed.
    pub(super) fn enter(&self, call: TrackedCall) -> Option<TrackEntry> {
        self.calls.enter_with(call, |account| {
            account.counts.accepted += 1;
            account.counts.pending += 1;
        })
    }
}

/// A call has been taken by a service.
pub(super) fn runs(entry: &TrackEntry) {
    entry.update(|call, account| {
        if !mem::replace(&mut call.runs, true) {
            account.counts.pending -= 1;
            account.counts.running += 1;
        }
    });
}

/// Takes a call out; `None` if it is out already.
pub(super) fn leave(entry: &mut TrackEntry, end: CallEnd) -> Option<CallSnapshot> {
    let now = Instant::now();
    entry.leave(|call, account| {
        let counts = &mut account.counts;
        match call.runs {
            false => counts.pending -= 1,
            true => counts.running -= 1,
        }
        let status = status_of(end, &call.cancel);
        *match status {
            CallStatus::Completed => &mut counts.completed,
            CallStatus::TimedOut => &mut counts.timed_out,
            CallStatus::Cancelled { .. } => &mut counts.cancelled,
            _ => &mut counts.failed,
        } += 1;
        counts.dropped += u64::from(matches!(end, CallEnd::Dropped));
        let snapshot = call.snapshot(status, now);
        if account.history > 0 {
            if account.finished.len() == account.history {
                account.finished.pop_front();
            }
            account.finished.push_back(snapshot.clone());
        }
        snapshot
    })
}

impl fmt::Debug for Tracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracker")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}
