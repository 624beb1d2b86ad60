//! A call that Python has been given: what its port does when Python tells of it.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tracing::Span;

use super::{
    call::{CallState, Outcome},
    inbox::{Held, Inbox, Start},
};
use crate::{
    call::{CallContext, CallId, Usage},
    request::Route,
};

/// The Rust side of one call that has been started, whichever port it went through.
pub(crate) struct Running {
    pub(crate) context: CallContext,
    pub(crate) route: Route,
    pub(crate) span: Span,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) state: Arc<CallState>,
    parts: Mutex<Parts>,
}

/// What is given away, each once.
struct Parts {
    outcome: Option<oneshot::Sender<Outcome>>,
    held: Held,
}

impl Running {
    pub(crate) fn new(inbox: Arc<Inbox>, start: Start) -> Self {
        start.state.spending().attempt().started();
        Self {
            context: start.context,
            route: start.route,
            span: start.span,
            inbox,
            state: start.state,
            parts: Mutex::new(Parts {
                outcome: Some(start.outcome),
                held: start.held,
            }),
        }
    }

    fn parts<T>(&self, take: impl FnOnce(&mut Parts) -> T) -> T {
        take(&mut self.parts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn resolve(&self, outcome: Outcome) {
        if let Some(sender) = self.parts(|parts| parts.outcome.take()) {
            self.inbox.counters.crossing.touch();
            self.state.outcome_out(&self.inbox.counters);
            // What the call left behind asks for nobody: a thread that waits there is woken.
            self.state.close_exchanges();
            // Fails if nobody waits any more, and then nothing is owed.
            let _ = sender.send(outcome);
        }
    }

    pub(crate) fn settle(&self) {
        // What the call holds goes first: whoever sees it settled finds the permit free.
        drop(self.parts(|parts| parts.held.take()));
        self.state.settle(&self.inbox.counters);
    }

    /// Settles a call that left `strays` behind.
    pub(crate) fn settled(&self, strays: Option<&[String]>) {
        if let Some(strays) = strays {
            self.inbox.counters.strays.add(strays.len() as u64);
            tracing::warn!(
                target: "tower_dspy",
                call_id = self.context.call_id.map(CallId::get),
                tasks = strays.join(", "),
                "the call left work behind, which was told to stop and has ended"
            );
        }
        self.settle();
    }

    /// The outcome of a call that left nothing behind.
    pub(crate) fn finished(&self, outcome: Outcome) {
        // Settled first: the caller that gets the answer finds its permit free.
        self.settle();
        self.resolve(outcome);
    }

    /// Keeps a partial answer; false if nobody waits for one any more.
    pub(crate) fn partial(&self, fields: Value) -> bool {
        let Value::Object(fields) = fields else {
            return false;
        };
        self.keep(fields)
    }

    fn keep(&self, fields: Map<String, Value>) -> bool {
        self.state.spending().attempt().partial(fields)
    }

    /// The program got an LM's answer, with these tokens of the prompt, of the completion and in all,
    /// as DSPy reads them, by an exchange of this number on Python's side.
    pub(crate) fn stepped(&self, exchange: Option<u64>, counts: Option<(u64, u64, u64)>) {
        let usage = counts.map(|(prompt_tokens, completion_tokens, total_tokens)| Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens,
        });
        self.state.spending().attempt().stepped(exchange, usage);
    }

    /// The program calls an LM past the host.
    pub(crate) fn bypassed(&self, lm: &str) {
        self.state.spending().bypassed(lm);
    }

    /// The loop ends: the caller learns that the host is gone, and the work stays counted.
    pub(crate) fn abandon(&self) {
        self.state.close_exchanges();
        drop(self.parts(|parts| (parts.outcome.take(), parts.held.take())));
        self.state.outcome_out(&self.inbox.counters);
    }
}
