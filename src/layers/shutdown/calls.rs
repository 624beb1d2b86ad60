//! The calls in flight, and what became of those that have ended.
//!
//! Invariants:
//! 1. A call is accepted, and entered, under the lock under which the shutdown begins: there is no
//!    call that it does not know of.
//! 2. A call is counted once, before it leaves: when no call is in flight, the counts are complete.
//! 3. No foreign code runs under a lock.

use std::{sync::Arc, time::Duration};

use super::{
    drain::Drain,
    hook::Hook,
    report::{ShutdownPhase, ShutdownReport},
};
use crate::{
    call::{
        CallContext, CallEnd, CallId, Cancel, Cause, Deadline, Progress, in_flight::InFlightTicket,
    },
    sync::{Mutex, MutexGuard, PoisonError},
};

#[derive(Debug, Default)]
pub(super) struct ShutdownCalls {
    state: Mutex<ShutdownState>,
    /// The nodes of the calls in flight, and the end of the calls.
    pub(super) drain: Drain<Cancel>,
}

#[derive(Debug, Default)]
pub(super) struct ShutdownState {
    pub(super) phase: ShutdownPhase,
    /// The counts of the calls that were refused or have ended.
    report: ShutdownReport,
    pub(super) hooks: Vec<Hook>,
    pub(super) hook_limit: Option<Duration>,
}

impl ShutdownCalls {
    pub(super) fn lock(&self) -> MutexGuard<'_, ShutdownState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a call and puts a node for it below the one in its `context`; `None` if it is
    /// refused.
    pub(super) fn admit(self: &Arc<Self>, context: &mut CallContext) -> Option<ShutdownTicket> {
        let node = self.drain.node_below(&context.cancel);
        let Some(entry) = self.drain.calls.enter(node.clone()) else {
            self.lock().report.refused += 1;
            return None;
        };
        context.cancel = node.clone();
        context.progress = context.progress.inside();
        Some(ShutdownTicket {
            calls: self.clone(),
            node,
            call: context.call_id,
            progress: context.progress.clone(),
            outcome: CallOutcome::Cancelled,
            _entry: entry,
        })
    }

    /// Signals all calls in flight to stop, and returns how many there are.
    pub(super) fn signal_stop(&self, grace: Deadline) -> usize {
        self.lock().phase = ShutdownPhase::Cancelling;
        self.drain.signal_stop(Cause::Shutdown, grace);
        let nodes = self.drain.calls.list();
        for node in &nodes {
            node.cancel(Cause::Shutdown);
        }
        nodes.len()
    }

    /// The hook that runs next. If there is none the shutdown is done, and takes no more hooks.
    pub(super) fn next_hook(&self) -> Option<Hook> {
        let mut state = self.lock();
        let hook = state.hooks.pop();
        if hook.is_none() {
            state.phase = ShutdownPhase::Done;
        }
        hook
    }

    /// The report of a shutdown that accepts no calls any more.
    pub(super) fn report(&self) -> ShutdownReport {
        let mut report = self.lock().report.clone();
        report.accepted = self.drain.calls.entered();
        let ended = report.completed + report.failed + report.cancelled;
        report.abandoned = report.accepted.saturating_sub(ended);
        report
    }
}

/// What became of a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum CallOutcome {
    Completed,
    Failed,
    Cancelled,
}

/// A call's place among those in flight, held by its future, or by the stream that it was answered
/// with. Dropping it counts the call, which
/// then leaves.
#[derive(Debug)]
pub(super) struct ShutdownTicket {
    pub(super) calls: Arc<ShutdownCalls>,
    pub(super) node: Cancel,
    pub(super) call: Option<CallId>,
    /// What of the call waits, and gets no grace.
    pub(super) progress: Progress,
    /// What the call is counted as if the ticket is dropped now.
    pub(super) outcome: CallOutcome,
    _entry: InFlightTicket<Cancel>,
}

impl ShutdownTicket {
    /// The call has ended with an error.
    pub(super) fn failed(&mut self) {
        self.outcome = if self.node.is_cancelled() {
            CallOutcome::Cancelled
        } else {
            CallOutcome::Failed
        };
    }

    /// Drops the ticket of a call whose stream ends so.
    pub(super) fn end(mut self, end: CallEnd) {
        match end {
            CallEnd::Completed => self.outcome = CallOutcome::Completed,
            CallEnd::Dropped | CallEnd::Cancelled(..) => self.outcome = CallOutcome::Cancelled,
            CallEnd::Failed(_) | CallEnd::TimedOut(_) => self.failed(),
        }
    }
}

impl Drop for ShutdownTicket {
    fn drop(&mut self) {
        let report = &mut self.calls.lock().report;
        *match self.outcome {
            CallOutcome::Completed => &mut report.completed,
            CallOutcome::Failed => &mut report.failed,
            CallOutcome::Cancelled => &mut report.cancelled,
        } += 1;
    }
}
