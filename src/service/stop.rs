//! When the work of a call is told to stop, and who says what became of the call.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::{
    call::{CallContext, Cancel, Cause, Deadline, drop_scope},
    error::{Cancelled, Elapsed, Error, Scope, Stage},
    layers::guard::enclosing,
};

pin_project! {
    /// Watches the deadline and the cancellation of one call.
    pub(crate) struct Stop {
        started: Instant,
        cancel: Cancel,
        #[pin]
        cancelled: Option<WaitForCancellationFutureOwned>,
        deadline: Option<Deadline>,
        #[pin]
        timer: Option<Sleep>,
        signalled: Option<Cause>,
    }
}

impl Stop {
    /// The error for a call that is to end before it has started.
    pub(crate) fn refuse(context: &CallContext) -> Option<Error> {
        if let Some(cause) = context.cancel.cause() {
            let refused = Cancelled::new(cause).with_stage(Stage::BeforeStart);
            return Some(refused.into());
        }
        let past = context.deadline.is_some_and(Deadline::is_past);
        past.then(|| {
            Elapsed::new(
                Scope::Deadline,
                Stage::BeforeStart,
                std::time::Duration::ZERO,
            )
            .into()
        })
    }

    pub(crate) fn new(context: &CallContext, started: Instant) -> Self {
        Self {
            started,
            cancelled: context.cancel.cancelled_owned(),
            cancel: context.cancel.clone(),
            deadline: context.deadline,
            timer: None,
            signalled: None,
        }
    }

    /// Why the work was told to stop, if it was.
    #[cfg(any(feature = "_host", feature = "test-util"))]
    pub(crate) fn signalled(&self) -> Option<Cause> {
        self.signalled
    }

    /// Why the call ends, if it ends now: as the layer that ends it says, where it came to its
    /// deadline, which may be the limit of an attempt.
    pub(crate) fn reason(&self) -> Cause {
        let told = match self.signalled {
            Some(Cause::Deadline) => self.cancel.cause(),
            told => told,
        };
        told.unwrap_or_else(|| match (self.signalled, drop_scope::cause()) {
            (Some(signalled), Cause::Dropped) => signalled,
            (_, cause) => cause,
        })
    }

    /// Signals the work when the call is cancelled or its deadline has passed, once. Ready with the
    /// error, unless a layer around this call sees to its end.
    pub(crate) fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        signal: impl FnOnce(Cause),
    ) -> Poll<Error> {
        let mut this = self.project();
        if let Some(cause) = *this.signalled {
            // Told at the deadline, a layer is about to end the call and to say what passed. Told
            // by a token, one may be giving the work its grace.
            let kept = cause == Cause::Deadline && this.timer.is_some()
                || enclosing::sees_to(Instant::now(), Stage::Running, false);
            if kept {
                return Poll::Pending;
            }
            return Poll::Ready(Cancelled::new(cause).into());
        }
        let cancelled = this.cancelled.as_mut().as_pin_mut();
        if cancelled.is_some_and(|cancelled| cancelled.poll(cx).is_ready()) {
            this.timer.set(None);
            let cause = this.cancel.cause().unwrap_or(Cause::Caller);
            *this.signalled = Some(cause);
            signal(cause);
            // A layer that watches the same token is polled after its work: an answer now would
            // win the tie and take the grace away. If there is none, it comes with the next poll.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(deadline) = *this.deadline else {
            return Poll::Pending;
        };
        if this.timer.is_none() {
            this.timer.set(Some(sleep_until(deadline.instant())));
        }
        if let Some(timer) = this.timer.as_mut().as_pin_mut() {
            ready!(timer.poll(cx));
        }
        *this.signalled = Some(Cause::Deadline);
        signal(Cause::Deadline);
        // Whoever set the limit knows what it is called; without a layer it is the deadline.
        if enclosing::sees_to(deadline.instant(), Stage::Running, true) {
            return Poll::Pending;
        }
        let limit = deadline.remaining_at(*this.started);
        Poll::Ready(Elapsed::new(Scope::Deadline, Stage::Running, limit).into())
    }
}
