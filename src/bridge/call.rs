//! One call on its way through Python, as the Rust side holds it.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use serde_json::Value;
use tokio::sync::oneshot;

use super::{
    counters::Counters,
    fault::Fault,
    inbox::{Control, Inbox},
};

/// What a call came to.
pub(crate) type Outcome = Result<Value, Fault>;

const CANCEL_SENT: u8 = 1;
const OUTCOME_OUT: u8 = 2;
const SETTLED: u8 = 4;

/// What both sides know of a call. Each step is taken once, whoever comes first.
#[derive(Debug, Default)]
pub(super) struct CallState(AtomicU8);

impl CallState {
    fn set(&self, step: u8) -> u8 {
        self.0.fetch_or(step, Ordering::AcqRel)
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire) & CANCEL_SENT != 0
    }

    /// The caller has its outcome, or has given up waiting: what still runs is an orphan.
    pub(super) fn outcome_out(&self, counters: &Counters) {
        if self.set(OUTCOME_OUT) & (OUTCOME_OUT | SETTLED) == 0 {
            counters.orphans.up();
        }
    }

    /// All that the call made has ended.
    pub(super) fn settle(&self, counters: &Counters) {
        let before = self.set(SETTLED);
        if before & SETTLED == 0 {
            counters.settled.add(1);
            if before & OUTCOME_OUT != 0 {
                counters.orphans.down();
            }
        }
    }
}

/// A call in flight. Resolves to its outcome; dropping it cancels the call.
///
/// The outcome is not the end: what the call holds is let go when all its work has ended.
#[derive(Debug)]
pub(crate) struct Call {
    sequence: u64,
    outcome: oneshot::Receiver<Outcome>,
    state: Arc<CallState>,
    inbox: Arc<Inbox>,
    resolved: bool,
}

impl Call {
    pub(super) fn new(
        sequence: u64,
        outcome: oneshot::Receiver<Outcome>,
        state: Arc<CallState>,
        inbox: Arc<Inbox>,
    ) -> Self {
        Self {
            sequence,
            outcome,
            state,
            inbox,
            resolved: false,
        }
    }

    /// Signals the work to stop, the first time; it may take its time to clean up.
    pub(crate) fn cancel(&self) {
        if self.state.set(CANCEL_SENT) & (CANCEL_SENT | SETTLED) == 0 {
            self.inbox.counters.cancelled.add(1);
            self.inbox.push(Control::Cancel(self.sequence));
        }
    }

    /// Why the host takes no calls any more.
    pub(crate) fn lost_because(&self) -> &str {
        self.inbox.closed().unwrap_or("it dropped the call")
    }
}

impl Future for Call {
    /// `None` if the host was gone before the call had an outcome.
    type Output = Option<Outcome>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.outcome).poll(cx).map(|outcome| {
            self.resolved = true;
            outcome.ok()
        })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.resolved {
            self.state.outcome_out(&self.inbox.counters);
            self.cancel();
        }
    }
}
