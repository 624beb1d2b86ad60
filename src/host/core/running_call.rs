//! A call that Python runs: what a port does with Python's reports of it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::sync::oneshot;

use super::{
    call_state::{CallPermit, CallState, Outcome},
    fault::{Fault, FaultKind},
    loop_monitor::BlockReport,
    queued_call::QueuedCall,
};
use crate::call::{CallId, Usage};

/// The Rust side of one call that has been started.
pub(crate) struct RunningCall {
    pub(crate) state: Arc<CallState>,
    outcome: Mutex<Option<oneshot::Sender<Outcome>>>,
    permit: Mutex<CallPermit>,
}

impl RunningCall {
    pub(crate) fn new(call: QueuedCall) -> Self {
        call.state.attempt.started();
        Self {
            state: call.state,
            outcome: Mutex::new(Some(call.outcome)),
            permit: Mutex::new(call.permit),
        }
    }

    /// Sends the outcome, the first time.
    pub(crate) fn resolve(&self, outcome: Outcome) {
        if let Some(sender) = take(&self.outcome) {
            // Work that the call left behind gets no events: a thread that waits is woken.
            let in_time = self.state.set_answered();
            if !in_time || sender.is_closed() {
                self.log_late("an outcome", outcome.as_ref().err());
            }
            // Fails if the caller has gone.
            let _ = sender.send(outcome);
        }
    }

    /// Settles the call: all its work, of which `strays` were left behind, has ended.
    pub(crate) fn settle(&self, strays: Option<&[String]>) {
        if let Some(strays) = strays {
            self.state.counters.lock().strays += strays.len() as u64;
            tracing::warn!(
                target: "tower_dspy",
                call_id = self.state.context.call_id.map(CallId::get),
                tasks = strays.join(", "),
                "the call left work behind, which was told to stop and has ended"
            );
        }
        // The permit first: once the call is settled, its permit is free.
        drop(take(&self.permit));
        self.state.settle(strays.unwrap_or_default());
    }

    /// Settles and resolves a call that left nothing behind.
    pub(crate) fn finish(&self, outcome: Outcome) {
        // Settled first: the caller that gets the answer finds its permit free.
        self.settle(None);
        self.resolve(outcome);
    }

    /// Keeps a partial answer; false if the call is over.
    pub(crate) fn keep_partial(&self, fields: Value) -> bool {
        let Value::Object(fields) = fields else {
            return false;
        };
        let kept = self.state.attempt.partial(fields);
        if !kept {
            self.log_late_partial();
        }
        kept
    }

    pub(crate) fn log_late_partial(&self) {
        self.log_late("a partial answer", None);
    }

    /// Logs what came after the end of the call, where nobody waits for it any more.
    fn log_late(&self, what: &str, fault: Option<&Fault>) {
        // The work ended because it was signalled to stop.
        if fault.is_some_and(|fault| fault.kind == FaultKind::Cancelled) {
            return;
        }
        tracing::debug!(
            target: "tower_dspy",
            call_id = self.state.context.call_id.map(CallId::get),
            attempt = self.state.context.attempt,
            python_type = fault.map(|fault| &*fault.python_type),
            "{what} came after the end of the call"
        );
    }

    /// Records the answer of an LM that DSPy read: its tokens, of the prompt, of the completion and
    /// in all, and the number of the exchange on Python's side.
    pub(crate) fn record_answer(&self, exchange: Option<u64>, counts: Option<(u64, u64, u64)>) {
        let usage = counts.map(|(prompt_tokens, completion_tokens, total_tokens)| Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens,
            ..Usage::default()
        });
        self.state.attempt.stepped(exchange, usage);
    }

    /// Records that the call's code has blocked the loop for `late`.
    pub(crate) fn record_block(&self, late: Duration, report: &BlockReport) {
        if let Some(frame) = report.frames.first() {
            self.state.attempt.blocked(late, frame);
        }
    }

    /// The loop ends: the caller learns that the host is gone, and the work stays counted.
    pub(crate) fn abandon(&self) {
        // Its exchanges are aborted before the caller learns that, and before the permit is free.
        self.state.set_answered();
        drop((take(&self.outcome), take(&self.permit)));
    }
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        call::{CallContext, WorkGuard},
        host::core::{clock, counters::HostCounters},
        request::Route,
    };

    struct PermitProbe(Arc<CallState>, std::sync::mpsc::Sender<bool>);

    impl Drop for PermitProbe {
        fn drop(&mut self) {
            let _ = self.1.send(self.0.is_over());
        }
    }

    #[test]
    fn an_abandoned_call_admits_no_exchange_once_its_permit_is_free() {
        let (context, route) = (CallContext::new(), Route::default());
        let state = CallState::new(
            context,
            WorkGuard::default(),
            route,
            None,
            None,
            HostCounters::new(0),
        );
        let (outcome, mut lost) = oneshot::channel();
        let (freed, was_over) = std::sync::mpsc::channel();
        let call = RunningCall::new(QueuedCall {
            sequence: 1,
            target: 1,
            inputs: Arc::default(),
            remaining: None,
            queued_at: clock::now(),
            state: state.clone(),
            outcome,
            permit: Some(Box::new(PermitProbe(state, freed))),
        });
        call.abandon();
        assert_eq!(was_over.recv_timeout(Duration::ZERO), Ok(true));
        assert!(lost.try_recv().is_err());
    }
}
