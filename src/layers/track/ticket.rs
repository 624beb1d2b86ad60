//! A call's place in its tracker.

use tracing::Span;

use super::{
    snapshot::CallStatus,
    tracker::{TrackEntry, leave, runs},
};
use crate::call::{Cancel, Cause, drop_scope};

/// How a call ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum TrackEnd {
    Completed,
    Failed,
    TimedOut,
    /// By an error that may know its cause.
    Cancelled(Option<Cause>),
    /// Without an answer.
    Dropped,
}

impl TrackEnd {
    /// The status of a call that ends so, and whose node is `node`.
    pub(super) fn status(self, node: &Cancel) -> CallStatus {
        let cause = match self {
            Self::Completed => return CallStatus::Completed,
            Self::Failed => return CallStatus::Failed,
            Self::TimedOut => return CallStatus::TimedOut,
            Self::Cancelled(cause) => cause.or_else(|| node.cause()).unwrap_or(Cause::Caller),
            Self::Dropped => drop_scope::cause(),
        };
        match cause {
            // A limit is a limit, whoever enforced it.
            Cause::Elapsed | Cause::Deadline => CallStatus::TimedOut,
            cause => CallStatus::Cancelled { cause },
        }
    }
}

/// A call's place in its tracker, held by the call's future. Dropping it makes the call leave.
pub(super) struct TrackTicket {
    entry: Option<TrackEntry>,
    runs: bool,
    /// Covers all of the call.
    pub(super) span: Span,
    /// How the call ends if the ticket is dropped now.
    pub(super) end: TrackEnd,
}

impl TrackTicket {
    /// The ticket of a call that has entered its tracker.
    pub(super) const fn new(entry: Option<TrackEntry>, span: Span) -> Self {
        Self {
            entry,
            runs: false,
            span,
            end: TrackEnd::Dropped,
        }
    }

    /// The call has been taken by a service.
    pub(super) fn runs(&mut self) {
        if !std::mem::replace(&mut self.runs, true)
            && let Some(entry) = &self.entry
        {
            runs(entry);
        }
    }
}

impl Drop for TrackTicket {
    fn drop(&mut self) {
        let end = self.end;
        let left = self.entry.as_mut().and_then(|entry| leave(entry, end));
        let Some(call) = left else { return };
        self.span.record("outcome", call.status.as_str());
        if let CallStatus::Cancelled { cause } = call.status {
            self.span.record("cause", cause.as_str());
        }
        self.span.record("attempts", call.attempts);
    }
}
