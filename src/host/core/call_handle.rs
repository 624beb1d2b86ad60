//! A call in flight, as its caller holds it.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use super::{
    call_state::{CallFailure, CallState, CallStream, Outcome},
    fault::Fault,
    queue::{Command, CommandQueue},
};
use crate::{
    call::{CallId, Cause, Spent, drop_scope},
    error::{BudgetExceeded, Classify, Error, Lost},
};

/// The signal to the work of a call to stop.
#[derive(Clone)]
pub(crate) struct CallSignal {
    pub(super) sequence: u64,
    pub(super) state: Arc<CallState>,
    pub(super) queue: Arc<CommandQueue>,
}

impl CallSignal {
    /// Signals the work to stop because of `cause`, the first time; whether it did. Its clean-up may take
    /// time. A call that is answered is left alone.
    pub(crate) fn send(&self, cause: Cause) -> bool {
        self.send_after(cause, || ())
    }

    /// The same; the first time, `note` runs before the work can see that it is to stop.
    pub(crate) fn send_after(&self, cause: Cause, note: impl FnOnce()) -> bool {
        let is_first = self.state.cancel_after(Some(cause), note);
        if is_first {
            self.queue.push_command(Command::Cancel(self.sequence));
        }
        is_first
    }
}

/// A call in flight. Resolves to its outcome; dropping it cancels the call.
///
/// The call goes on after its outcome, with its permit, until all its work has ended.
pub(crate) struct CallHandle {
    pub(super) outcome: oneshot::Receiver<Outcome>,
    pub(super) signal: CallSignal,
    /// The caller has the outcome, or an error in its place, or has given up.
    pub(super) answered: bool,
}

impl CallHandle {
    /// The id of the call.
    pub(crate) fn id(&self) -> Option<CallId> {
        self.signal.state.context.call_id
    }

    /// As [`CallSignal::send`].
    pub(crate) fn cancel(&self, cause: Cause) {
        self.signal.send(cause);
    }

    /// The signal to the work, for code that does not hold the call.
    pub(crate) fn signal(&self) -> CallSignal {
        self.signal.clone()
    }

    /// The stream of the answer; `None` if nobody reads it before it is whole.
    pub(crate) fn stream(&self) -> Option<&CallStream> {
        self.signal.state.stream.as_ref()
    }

    /// Closes the record, with an answer or an error: what the call spends from now on is not part
    /// of it. The call is answered then. Returns what it spent; `None` if that is nothing.
    pub(crate) fn close(&mut self, end: Result<(), &Error>) -> Option<Arc<Spent>> {
        self.set_answered();
        self.signal.state.close(end.map_err(|error| CallFailure {
            cause: match error {
                Error::Elapsed(_) => Some(Cause::Deadline),
                _ => error.cancel_cause(),
            },
            kind: Some(error.kind()),
        }))
    }

    /// Gives the call up because of `cause`, and reports to the drop scope what it spent.
    pub(crate) fn give_up(&mut self, cause: Cause) {
        // The cause first: an exchange that is aborted records it.
        self.cancel(cause);
        self.set_answered();
        let failure = CallFailure {
            cause: Some(cause),
            kind: None,
        };
        if let Some(spent) = self.signal.state.close(Err(failure)) {
            drop_scope::report(spent);
        }
    }

    pub(crate) const fn is_answered(&self) -> bool {
        self.answered
    }

    fn set_answered(&mut self) {
        if !mem::replace(&mut self.answered, true) {
            self.signal.state.set_answered();
        }
    }

    /// The error of a call of `program` that ended with `fault`; `cause` tells why it was cancelled, if
    /// it was. A refusal for a budget is the error of the program that let it through.
    pub(crate) fn failed(&self, fault: Fault, program: &str, cause: Cause) -> Error {
        let refusal = self.signal.state.attempt.budget_refusal();
        match refusal.filter(|_| fault.is_over_budget()) {
            Some(refusal) => BudgetExceeded::of(&refusal).into(),
            None => {
                let wait = self.signal.state.attempt.refusal_wait();
                fault.or_retry_after(wait).into_error(program, cause)
            }
        }
    }

    /// The error of a call whose host went away.
    pub(crate) fn lost(&self) -> Error {
        Lost::new(self.signal.queue.refusal().unwrap_or("it dropped the call")).into()
    }
}

impl Future for CallHandle {
    /// `None` if the host was gone before the call had an outcome.
    type Output = Option<Outcome>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.outcome).poll(cx).map(|outcome| {
            self.answered = true;
            outcome.ok()
        })
    }
}

impl Drop for CallHandle {
    fn drop(&mut self) {
        if !self.answered {
            self.give_up(drop_scope::cause());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        call::Scope,
        error::{Cancelled, Elapsed, ProgramError, Stage},
        host::core::host_core::{HostCore, NewCall},
    };

    #[test]
    fn the_record_has_a_cause_unless_the_call_ended_with_an_error_of_its_own() {
        let core = HostCore::new(0, "3.4.1").expect("an eventfd");
        let cause_of = |error: Error| {
            let mut call = core.submit(NewCall::default());
            call.close(Err(&error));
            call.signal.state.attempt.record().timeline().attempts[0].cause
        };
        let own = ProgramError::new("ValueError", "no", "").into();
        assert_eq!(cause_of(own), None);
        let cancelled = Cancelled::new(Cause::Shutdown).into();
        assert_eq!(cause_of(cancelled), Some(Cause::Shutdown));
        let elapsed = Elapsed::new(Scope::Deadline, Stage::Running, Default::default()).into();
        assert_eq!(cause_of(elapsed), Some(Cause::Deadline));
    }
}
