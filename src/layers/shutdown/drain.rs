//! The end of the calls in flight, step by step: they drain, are told to stop, and are given up.
//!
//! Invariants:
//! 1. The instant at which the grace begins is set before any call is told to stop: a call that is
//!    told knows that it has a grace.
//! 2. A call that was given up is dropped by its own task, when that polls it next.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use crate::{
    call::{Cancel, Cause, Deadline, in_flight::InFlight},
    layers::guard::enclosing::{self, End},
};

/// How long the tasks of the calls that were given up have to drop them.
const LAST_POLL: Duration = Duration::from_millis(100);

/// Calls in flight that can be ended together, with a grace.
#[derive(Debug)]
pub(crate) struct Drain<T> {
    pub(crate) calls: Arc<InFlight<T>>,
    /// When the grace began.
    told: OnceLock<Instant>,
    /// Cancelled when the calls are told to stop.
    pub(crate) stop: Cancel,
    /// Cancelled when their grace has ended.
    pub(crate) give_up: Cancel,
}

impl<T> Default for Drain<T> {
    fn default() -> Self {
        Self {
            calls: Arc::default(),
            told: OnceLock::new(),
            stop: Cancel::new(),
            give_up: Cancel::new(),
        }
    }
}

impl<T> Drain<T> {
    /// Tells the calls to stop, and begins their grace.
    pub(crate) fn tell(&self, cause: Cause) {
        self.told.get_or_init(Instant::now);
        self.stop.cancel(cause);
    }

    /// Polls the work of a call. In the grace the layers inside leave its end to the drain, or they
    /// would drop what still cleans up.
    pub(crate) fn enclose<P>(&self, poll: impl FnOnce() -> P) -> P {
        let end = self.told.get().map(|&at| End {
            at,
            grace: true,
            begun: true,
        });
        enclosing::with(end, poll)
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
