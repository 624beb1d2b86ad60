//! The end of a program's call from outside: when its work is signalled, and who answers the call.
//!
//! One limit has three timers. The layer's drops the future and returns the error. The service's,
//! in this file, signals the work, once, and answers only if no enclosing layer has done so. The
//! LM's drops the request, which closes its connection; its failure is withheld from the program.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    call::{
        CallContext, Cancel, Cause, Deadline, Enclosing, Scope, drop_scope,
        termination::{Terminated, Termination},
    },
    error::{Cancelled, Elapsed, Error, Stage},
};

/// Watches the deadline and the cancellation of one call.
pub(crate) struct ServiceTermination {
    started: Instant,
    cancel: Cancel,
    deadline: Option<Deadline>,
    termination: Pin<Box<Termination>>,
    enclosing: Enclosing,
    phase: ServicePhase,
}

enum ServicePhase {
    /// The call has not ended.
    Watching,
    /// The work was signalled; an enclosing layer ends the call, or this when the timer has fired.
    LeftToOuter(Pin<Box<Sleep>>),
    /// This answers with its next poll, if no enclosing layer has ended the call by then.
    GivingWay,
    /// This answers.
    Answering,
}

impl ServiceTermination {
    /// The error for a call that is to end before it has started.
    pub(crate) fn refuse(context: &CallContext) -> Option<Error> {
        let stage = Stage::BeforeStart;
        let ended = Terminated::by_now(&context.cancel, context.deadline)?;
        Some(match ended {
            Terminated::Cancelled(cause) => Cancelled::new(cause).with_stage(stage).into(),
            Terminated::DeadlinePassed => {
                Elapsed::new(Scope::Deadline, stage, Duration::ZERO).into()
            }
        })
    }

    pub(crate) fn new(context: &CallContext, started: Instant) -> Self {
        Self {
            started,
            cancel: context.cancel.clone(),
            deadline: context.deadline,
            termination: Box::pin(Termination::new(context.cancel.clone(), context.deadline)),
            enclosing: context.enclosing(),
            phase: ServicePhase::Watching,
        }
    }

    /// The cause that the work was signalled with; `None` if it was not.
    pub(crate) fn signalled(&self) -> Option<Cause> {
        self.termination.ended().map(Terminated::cause)
    }

    /// The cause of a call that ends now. In order of precedence: the cause of a cancellation, even
    /// after the last poll; the cause from the enclosing layer, by [`drop_scope`]; the cause that the
    /// work was signalled with, which is [`Cause::Deadline`] for the limit of an attempt as well.
    pub(crate) fn reason(&self) -> Cause {
        let signalled = self.signalled();
        let known = match signalled {
            None | Some(Cause::Deadline) => self.cancel.cause(),
            known => known,
        };
        known.unwrap_or_else(|| match (signalled, drop_scope::cause()) {
            (Some(signalled), Cause::Dropped) => signalled,
            (_, cause) => cause,
        })
    }

    /// Signals the work when the call is cancelled or its deadline has passed, once. Ready with the
    /// error if no enclosing layer has ended the call by the end of its grace.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, signal: impl FnOnce(Cause)) -> Poll<Error> {
        let ended = ready!(self.termination.as_mut().poll(cx));
        if matches!(self.phase, ServicePhase::Watching) {
            signal(ended.cause());
            self.phase = match (self.enclosing.drops_at(Instant::now()), ended) {
                (Some(at), _) => ServicePhase::LeftToOuter(Box::pin(sleep_until(at))),
                (None, Terminated::Cancelled(_)) => ServicePhase::GivingWay,
                // No layer enforces the deadline.
                (None, Terminated::DeadlinePassed) => ServicePhase::Answering,
            };
        }
        if let ServicePhase::LeftToOuter(outer_end) = &mut self.phase {
            ready!(outer_end.as_mut().poll(cx));
            self.phase = ServicePhase::GivingWay;
        }
        if matches!(self.phase, ServicePhase::GivingWay) {
            // An enclosing layer is polled after its work: an answer now would win the tie, and take
            // the grace away. Without such a layer the answer comes with the next poll.
            self.phase = ServicePhase::Answering;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.error(ended))
    }

    fn error(&self, ended: Terminated) -> Error {
        match ended {
            Terminated::Cancelled(cause) => Cancelled::new(cause).into(),
            Terminated::DeadlinePassed => {
                let at = self.deadline.unwrap_or(Deadline::at(self.started));
                // The limit of an enclosing layer has its own name.
                let (scope, since) = match self.enclosing.limit_over(at) {
                    Some(limit) => (limit.scope, limit.since),
                    None => (Scope::Deadline, self.started),
                };
                Elapsed::new(scope, Stage::Running, at.remaining_at(since)).into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancellation_after_the_last_poll_is_the_cause_of_the_drop() {
        let mut context = CallContext::new();
        context.cancel = Cancel::new();
        let termination = ServiceTermination::new(&context, Instant::now());
        assert_eq!(termination.reason(), Cause::Dropped);
        context.cancel.cancel(Cause::Caller);
        assert_eq!(termination.reason(), Cause::Caller);
    }
}
