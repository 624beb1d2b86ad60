//! The calls in flight, as the shutdown and each call see them.
//!
//! Invariants:
//! 1. A call is accepted, and entered, under the lock under which the shutdown begins: there is no
//!    call that it does not know of.
//! 2. An accepted call leaves once: its [`Ticket`] is owned by its future, and is dropped after
//!    what the future holds.
//! 3. When the calls are told to stop, first the instant is set, then each node is cancelled, then
//!    the futures are woken: one that sees its node cancelled knows that it has a grace.
//! 4. No foreign code runs under the lock.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{
    hook::Hook,
    report::{ShutdownPhase, ShutdownReport},
};
use crate::{
    call::{CallContext, Cancel, Cause, Deadline},
    sync::{CancellationToken, Mutex, MutexGuard, PoisonError},
};

#[derive(Debug, Default)]
pub(super) struct Calls {
    state: Mutex<State>,
    /// When the calls were told to stop.
    told: OnceLock<Instant>,
    /// Fires when they were told.
    pub(super) stop: CancellationToken,
    /// Fires when their grace has ended.
    pub(super) give_up: CancellationToken,
    empty: Notify,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) phase: ShutdownPhase,
    /// The counts; what is made of them at the end.
    pub(super) report: ShutdownReport,
    pub(super) hooks: Vec<Hook>,
    pub(super) hook_limit: Option<Duration>,
    nodes: BTreeMap<u64, Cancel>,
}

impl State {
    pub(super) fn in_flight(&self) -> usize {
        self.nodes.len()
    }
}

impl Calls {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a call and puts a node for it below the one in its `context`; `None` if it is
    /// refused.
    pub(super) fn admit(self: &Arc<Self>, context: &mut CallContext) -> Option<Ticket> {
        // Made first, not under the lock; a refused call drops it again.
        let node = context.cancel.child();
        let number = {
            let mut state = self.lock();
            if !state.phase.is_accepting() {
                state.report.refused += 1;
                return None;
            }
            let number = state.report.accepted;
            state.report.accepted += 1;
            state.nodes.insert(number, node.clone());
            number
        };
        context.cancel = node.clone();
        Some(Ticket {
            calls: self.clone(),
            number,
            node,
            end: End::Cancelled,
        })
    }

    /// When the calls were told to stop, if they were.
    pub(super) fn told(&self) -> Option<Instant> {
        self.told.get().copied()
    }

    /// Tells all calls in flight to stop, and returns how many there are.
    pub(super) fn tell(&self) -> usize {
        let nodes: Vec<_> = {
            let mut state = self.lock();
            state.phase = ShutdownPhase::Cancelling;
            state.nodes.values().cloned().collect()
        };
        self.told.get_or_init(Instant::now);
        for node in &nodes {
            node.cancel(Cause::Shutdown);
        }
        self.stop.cancel();
        nodes.len()
    }

    /// Waits until no call is in flight, and returns whether it came to that before `until`.
    pub(super) async fn wait_empty(&self, until: Deadline) -> bool {
        // Made before the look: from then on it misses no notification.
        let empty = self.empty.notified();
        if self.lock().in_flight() == 0 {
            return true;
        }
        // Nothing is accepted any more: what was empty once stays so.
        timeout_at(until.instant(), empty).await.is_ok() || self.lock().in_flight() == 0
    }
}

/// How a call ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Completed,
    Failed,
    Cancelled,
}

/// A call's place among those in flight, held by its future. Dropping it makes the call leave.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) calls: Arc<Calls>,
    number: u64,
    pub(super) node: Cancel,
    /// How the call ends if the ticket is dropped now.
    pub(super) end: End,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.calls.lock();
        let node = state.nodes.remove(&self.number);
        let report = &mut state.report;
        *match self.end {
            End::Completed => &mut report.completed,
            End::Failed => &mut report.failed,
            End::Cancelled => &mut report.cancelled,
        } += 1;
        let empty = state.in_flight() == 0;
        drop(state);
        drop(node);
        if empty {
            self.calls.empty.notify_waiters();
        }
    }
}
