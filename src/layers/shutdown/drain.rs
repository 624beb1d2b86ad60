//! The end of the calls in flight, step by step: they drain, are signalled to stop, and are given up.
//!
//! Invariants:
//! 1. The instant at which the grace ends is set before any call is signalled to stop: a call that
//!    is signalled knows that it has a grace.
//! 2. A call that was given up is dropped by its own task, when that polls it next.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout_at;

use crate::call::{Cancel, CancelGrace, Cause, Deadline, in_flight::InFlight};

/// How long the tasks of the calls that were given up have to drop them.
const LAST_POLL: Duration = Duration::from_millis(100);

/// Calls in flight that can be ended together, with a grace.
#[derive(Debug)]
pub(crate) struct Drain<T> {
    pub(crate) calls: Arc<InFlight<T>>,
    /// Inner layers leave the end of a call to the drain, or they would drop what still cleans up.
    grace: CancelGrace,
    /// Cancelled when the calls are signalled to stop.
    pub(crate) stop: Cancel,
    /// Cancelled when their grace has ended.
    pub(crate) give_up: Cancel,
}

impl<T> Default for Drain<T> {
    fn default() -> Self {
        Self {
            calls: Arc::default(),
            grace: CancelGrace::default(),
            stop: Cancel::new(),
            give_up: Cancel::new(),
        }
    }
}

impl<T> Drain<T> {
    /// A node below `outer`, for a call that has the grace of this drain.
    pub(crate) fn node_below(&self, outer: &Cancel) -> Cancel {
        outer.child_with_grace(self.grace.clone())
    }

    /// Signals the calls to stop, and begins their grace.
    pub(crate) fn signal_stop(&self, cause: Cause, grace: Deadline) {
        self.grace.begin(grace.instant());
        self.stop.cancel(cause);
    }

    /// Waits until no call is in flight. Returns whether that came before `until`.
    pub(crate) async fn wait_empty(&self, until: Deadline) -> bool {
        self.calls.is_empty()
            || timeout_at(until.instant(), self.calls.wait_empty())
                .await
                .is_ok()
            || self.calls.is_empty()
    }

    /// Waits until no call is in flight or the grace ends, and then gives up the rest.
    pub(crate) async fn end_by(&self, grace: Deadline) {
        if !self.wait_empty(grace).await {
            self.give_up
                .cancel(self.stop.cause().unwrap_or(Cause::Shutdown));
            self.wait_empty(Deadline::within(LAST_POLL)).await;
        }
    }
}
