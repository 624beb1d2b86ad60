//! The snapshot and the counts of tracked calls.

use std::{sync::Arc, time::Duration};

use crate::call::{CallEnd, CallId, CallStatus, Cancel, Cause, drop_scope};

/// One call, as it was when the tracker was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallSnapshot {
    /// The call's id.
    pub id: CallId,
    /// The label of the layer that tracks it.
    pub label: Option<Arc<str>>,
    /// How far it has come.
    pub status: CallStatus,
    /// Why it was told to stop, if it was. It may still clean up, or be done before it noticed.
    pub stopping: Option<Cause>,
    /// How many attempts were begun, as far as this crate's retry made them; 0 while it waits.
    pub attempts: u32,
    /// How long it has taken so far; how long it took, once it is over.
    pub elapsed: Duration,
    /// What is left, or was left at its end, of the deadline that it came to the layer with.
    pub time_left: Option<Duration>,
}

/// How many calls came, and what became of them.
///
/// At every moment `accepted` is [`live`](Self::live) `+ completed + failed + timed_out +
/// cancelled`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallCounts {
    /// All calls that came.
    pub accepted: u64,
    /// Those that wait for a service.
    pub pending: u64,
    /// Those that a service has taken.
    pub running: u64,
    /// Those that were answered.
    pub completed: u64,
    /// Those that ended in an error, or in a panic.
    pub failed: u64,
    /// Those that a limit of time ended.
    pub timed_out: u64,
    /// Those that were stopped for another reason.
    pub cancelled: u64,
    /// How many of `timed_out` and `cancelled` had their future dropped, and so got no answer.
    pub dropped: u64,
}

impl CallCounts {
    /// The calls that are not over.
    #[must_use]
    pub const fn live(&self) -> u64 {
        self.pending + self.running
    }
}

/// The status of a call that ends so, and whose node is `node`.
pub(super) fn status_of(end: CallEnd, node: &Cancel) -> CallStatus {
    let cause = match end {
        CallEnd::Completed => return CallStatus::Completed,
        CallEnd::Failed(_) => return CallStatus::Failed,
        CallEnd::TimedOut(_) => return CallStatus::TimedOut,
        CallEnd::Cancelled(cause, _) => cause.or_else(|| node.cause()).unwrap_or(Cause::Caller),
        CallEnd::Dropped => drop_scope::cause(),
    };
    match cause {
        // A call that a limit ended is timed out, whichever layer or service enforced the limit.
        Cause::Elapsed | Cause::Deadline => CallStatus::TimedOut,
        cause => CallStatus::Cancelled { cause },
    }
}
