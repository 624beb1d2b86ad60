//! A call that waits for its start.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio::sync::oneshot;

use super::{
    call_state::{CallPermit, CallState, Outcome},
    clock,
    fault::Fault,
};

/// A call in the queue.
pub(crate) struct QueuedCall {
    /// Attempts of one call share the id in its context; each is started, and numbered, by itself.
    pub(crate) sequence: u64,
    /// The program or function that is called.
    pub(crate) target: u64,
    pub(crate) inputs: Arc<Value>,
    /// Until the call's deadline, when it was queued.
    pub(crate) remaining: Option<Duration>,
    pub(crate) queued_at: Duration,
    pub(crate) state: Arc<CallState>,
    pub(crate) outcome: oneshot::Sender<Outcome>,
    pub(crate) permit: CallPermit,
}

impl QueuedCall {
    /// Counts the start; `None` if the call was cancelled while it waited, and ends here.
    pub(crate) fn begin(self) -> Option<Self> {
        if self.state.begin() {
            return Some(self);
        }
        self.end_cancelled();
        None
    }

    /// Ends a call that was cancelled while it waited.
    pub(super) fn end_cancelled(self) {
        // Fails if the caller has gone.
        let _ = self.discard().send(Err(Fault::cancelled_before_start()));
    }

    /// Settles the call without a start. If the sender is dropped, its receiver learns that the host
    /// is gone.
    pub(crate) fn discard(self) -> oneshot::Sender<Outcome> {
        drop(self.permit);
        self.state.settle(&[]);
        self.outcome
    }

    /// Time until the call's deadline, if it has one.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        let waited = clock::now().saturating_sub(self.queued_at);
        self.remaining
            .map(|remaining| remaining.saturating_sub(waited))
    }
}
