//! The end of a program's call from outside: when its work is told to stop, and which layer or
//! service answers the call.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    call::{
        CallContext, Cancel, Cause, Deadline, drop_scope,
        termination::{Terminated, Termination},
    },
    error::{Cancelled, Elapsed, Error, Scope, Stage},
    layers::guard::enclosing,
};

/// Watches the deadline and the cancellation of one call.
pub(crate) struct ServiceTermination {
    started: Instant,
    cancel: Cancel,
    deadline: Option<Deadline>,
    termination: Pin<Box<Termination>>,
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
        }
    }

    /// Why the work was told to stop, if it was.
    pub(crate) fn signalled(&self) -> Option<Cause> {
        self.termination.ended().map(Terminated::cause)
    }

    /// Why the call ends, if it ends now: at its deadline, which may be the limit of an attempt, for
    /// the cause that the layer gives that ends it.
    pub(crate) fn reason(&self) -> Cause {
        let signalled = self.signalled();
        let known = match signalled {
            Some(Cause::Deadline) => self.cancel.cause(),
            known => known,
        };
        known.unwrap_or_else(|| match (signalled, drop_scope::cause()) {
            (Some(signalled), Cause::Dropped) => signalled,
            (_, cause) => cause,
        })
    }

    /// Signals the work when the call is cancelled or its deadline has passed, once. Ready with the
    /// error, unless an enclosing layer ends the call.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, signal: impl FnOnce(Cause)) -> Poll<Error> {
        let was_signalled = self.signalled().is_some();
        let ended = ready!(self.termination.as_mut().poll(cx));
        if !was_signalled {
            signal(ended.cause());
        }
        match ended {
            Terminated::Cancelled(_) if !was_signalled => {
                // A layer that watches the same token is polled after its work: an answer now would
                // win the tie and take the grace away. Without such a layer it comes with the next
                // poll.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Terminated::Cancelled(cause) => {
                if enclosing::sees_to(Instant::now(), Stage::Running, false) {
                    return Poll::Pending;
                }
                Poll::Ready(Cancelled::new(cause).into())
            }
            // The layer that set the limit is about to end the call, and names the limit.
            Terminated::DeadlinePassed if was_signalled => Poll::Pending,
            Terminated::DeadlinePassed => {
                let deadline = self.deadline.unwrap_or(Deadline::at(self.started));
                if enclosing::sees_to(deadline.instant(), Stage::Running, true) {
                    return Poll::Pending;
                }
                let limit = deadline.remaining_at(self.started);
                Poll::Ready(Elapsed::new(Scope::Deadline, Stage::Running, limit).into())
            }
        }
    }
}
