//! The end of a program's call from outside: when its work is signalled, and who answers the call.
//!
//! One limit has three timers. The layer's drops the future and returns the error. The service's,
//! in this file, signals the work, once, and answers only if no enclosing layer has done so. The
//! LM's drops the request, which closes its connection; its failure is withheld from the program.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    call::{
        CallContext, Cancel, Cause, Deadline, Precedence, Scope, drop_scope,
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
    precedence: Precedence,
    /// The end of an enclosing layer's grace.
    outer_end: Option<Pin<Box<Sleep>>>,
    gave_way: bool,
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
            precedence: context.precedence(),
            outer_end: None,
            gave_way: false,
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
    /// error if no enclosing layer has ended the call by the end of its grace.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, signal: impl FnOnce(Cause)) -> Poll<Error> {
        let was_signalled = self.signalled().is_some();
        let ended = ready!(self.termination.as_mut().poll(cx));
        if !was_signalled {
            signal(ended.cause());
            let dropped_at = self.precedence.drops_at(Instant::now());
            // A deadline that no layer enforces is answered at once.
            self.gave_way = ended == Terminated::DeadlinePassed && dropped_at.is_none();
            self.outer_end = dropped_at.map(|at| Box::pin(sleep_until(at)));
        }
        if let Some(outer_end) = &mut self.outer_end {
            ready!(outer_end.as_mut().poll(cx));
        }
        if !mem::replace(&mut self.gave_way, true) {
            // An enclosing layer is polled after its work: an answer now would win the tie, and take
            // the grace away. Without such a layer the answer comes with the next poll.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(match ended {
            Terminated::Cancelled(cause) => Cancelled::new(cause).into(),
            Terminated::DeadlinePassed => {
                let at = self.deadline.unwrap_or(Deadline::at(self.started));
                // The limit of an enclosing layer has its own name.
                let (scope, since) = match self.precedence.limit_over(at) {
                    Some(limit) => (limit.scope, limit.since),
                    None => (Scope::Deadline, self.started),
                };
                Elapsed::new(scope, Stage::Running, at.remaining_at(since)).into()
            }
        })
    }
}
