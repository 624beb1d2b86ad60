//! One call on its way through Python, as the Rust side holds it.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use serde_json::Value;
use tokio::{sync::oneshot, task::AbortHandle};

use super::{
    counters::Counters,
    fault::Fault,
    inbox::{Control, Inbox},
    spending::Spending,
};
use crate::{
    call::{Cause, Spent, drop_scope},
    lm::MadeFor,
};

/// What a call came to.
pub(crate) type Outcome = Result<Value, Fault>;

const CANCEL_SENT: u8 = 1;
const OUTCOME_OUT: u8 = 2;
const SETTLED: u8 = 4;

/// What both sides know of a call. Each step is taken once, whoever comes first.
#[derive(Debug)]
pub(crate) struct CallState {
    steps: AtomicU8,
    exchanges: Mutex<Exchanges>,
    spending: Spending,
}

/// The exchanges of a call that are under way.
#[derive(Debug, Default)]
struct Exchanges {
    closed: bool,
    open: Vec<(u64, Abort)>,
}

impl CallState {
    pub(crate) fn new(spending: Spending) -> Self {
        Self {
            steps: AtomicU8::new(0),
            exchanges: Mutex::default(),
            spending,
        }
    }

    pub(crate) const fn spending(&self) -> &Spending {
        &self.spending
    }

    fn set(&self, step: u8) -> u8 {
        self.steps.fetch_or(step, Ordering::AcqRel)
    }

    fn has(&self, step: u8) -> bool {
        self.steps.load(Ordering::Acquire) & step != 0
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.has(CANCEL_SENT)
    }

    /// Whether the call may call no LM any more.
    pub(crate) fn is_over(&self) -> bool {
        self.has(CANCEL_SENT | OUTCOME_OUT)
    }

    /// The caller has its outcome, or has given up waiting: what still runs is an orphan.
    pub(crate) fn outcome_out(&self, counters: &Counters) {
        if self.set(OUTCOME_OUT) & (OUTCOME_OUT | SETTLED) == 0 {
            counters.orphans.up();
        }
    }

    /// All that the call made has ended.
    pub(crate) fn settle(&self, counters: &Counters) {
        let before = self.set(SETTLED);
        if before & SETTLED == 0 {
            // Whoever sees that none runs sees no orphan.
            if before & OUTCOME_OUT != 0 {
                counters.orphans.down();
            }
            self.spending.attempt().settled();
            counters.settled.add(1);
        }
    }

    fn exchanges(&self) -> MutexGuard<'_, Exchanges> {
        self.exchanges
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts an exchange, unless the call may not have one any more.
    pub(crate) fn begin_exchange(&self, id: u64, start: impl FnOnce() -> Abort) -> Option<Abort> {
        // Under the lock, so that a cancel comes before all of this or after it.
        let mut exchanges = self.exchanges();
        if exchanges.closed {
            return None;
        }
        let abort = start();
        exchanges.open.push((id, abort.clone()));
        Some(abort)
    }

    pub(crate) fn exchange_ended(&self, id: u64) {
        let mut exchanges = self.exchanges();
        exchanges.open.retain(|(open, _)| *open != id);
    }

    /// The call is to stop. True for the first who says so, who has to tell Python.
    ///
    /// The LM connections go first, and without a word: an error there would let a program that
    /// catches exceptions pay for one more LM call before the signal reaches it.
    pub(crate) fn cancel(&self, counters: &Counters) -> bool {
        let first = self.set(CANCEL_SENT) & (CANCEL_SENT | SETTLED) == 0;
        if first {
            self.close_exchanges();
            counters.cancelled.add(1);
        }
        first
    }

    /// Closes the connections of the call's exchanges. Python hears nothing of it.
    pub(crate) fn close_exchanges(&self) {
        let open = {
            let mut exchanges = self.exchanges();
            exchanges.closed = true;
            std::mem::take(&mut exchanges.open)
        };
        for (_, abort) in open {
            abort.now();
        }
    }
}

impl MadeFor for CallState {
    fn is_over(&self) -> bool {
        Self::is_over(self)
    }
}

/// Ends an exchange.
#[derive(Clone, Debug)]
pub(crate) struct Abort(AbortHandle);

impl Abort {
    pub(crate) const fn new(task: AbortHandle) -> Self {
        Self(task)
    }

    /// Drops the exchange where it stands, which closes its connection. That is done on the LM
    /// runtime, as is waking a thread that waits for an event: hundreds of calls may end at one
    /// moment, and each of their callers would wait for those that are woken before.
    pub(crate) fn now(&self) {
        self.0.abort();
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
    pub(crate) fn new(
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

    /// Signals the work to stop because of `cause`, the first time; it may take its time to clean up.
    pub(crate) fn cancel(&self, cause: Cause) {
        self.state.spending.stop(cause);
        if self.state.cancel(&self.inbox.counters) {
            self.inbox.push(Control::Cancel(self.sequence));
        }
    }

    /// The call is over, with an answer or because of `cause`: what it spent until now is what it
    /// spent. `None` if that is nothing.
    pub(crate) fn close(&self, end: Result<(), Cause>) -> Option<Arc<Spent>> {
        self.state.spending.close(end)
    }

    /// Nobody waits any more, because of `cause`. Returns as [`close`](Self::close).
    pub(crate) fn give_up(&mut self, cause: Cause) -> Option<Arc<Spent>> {
        self.resolved = true;
        self.state.outcome_out(&self.inbox.counters);
        self.cancel(cause);
        self.close(Err(cause))
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
            let spent = self.give_up(drop_scope::cause());
            if let Some(spent) = spent {
                drop_scope::report(spent);
            }
        }
    }
}
