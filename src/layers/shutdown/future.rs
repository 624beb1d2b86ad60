//! The response future of a call that a shutdown may end.

use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower::Service;

use super::calls::{CallOutcome, ShutdownTicket};
use crate::{
    call::{Cancel, Cause, drop_scope, termination::Termination},
    error::{Cancelled, Stage},
    layers::guard::{ReadyCall, Work},
};

pin_project! {
    /// The response future of [`ShutdownService`](super::ShutdownService).
    pub struct ShutdownFuture<S, R>
    where
        S: Service<R>,
    {
        #[pin]
        work: ReadyCall<S, R>,
        // After the work: a call is in flight as long as it holds something.
        ticket: Option<ShutdownTicket>,
        // First that the calls are signalled to stop, then that their grace has ended.
        #[pin]
        termination: Termination,
        signalled: bool,
        refused: bool,
    }
}

impl<S: Service<R>, R> ShutdownFuture<S, R> {
    pub(super) fn admitted(work: ReadyCall<S, R>, ticket: ShutdownTicket) -> Self {
        let stop = ticket.calls.drain.stop.clone();
        Self {
            work,
            ticket: Some(ticket),
            termination: Termination::new(stop, None),
            signalled: false,
            refused: false,
        }
    }

    pub(super) const fn refused() -> Self {
        Self {
            work: ReadyCall::Gone,
            ticket: None,
            termination: Termination::new(Cancel::none(), None),
            signalled: false,
            refused: true,
        }
    }
}

impl<S, R> Future for ShutdownFuture<S, R>
where
    S: Service<R>,
    S::Error: From<Cancelled>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if mem::take(this.refused) {
            let refused = Cancelled::new(Cause::Shutdown).with_stage(Stage::BeforeStart);
            return Poll::Ready(Err(refused.into()));
        }
        let Some(ticket) = this.ticket else {
            return Poll::Pending;
        };
        // So it stays if the poll, or the drop after it, panics.
        ticket.outcome = CallOutcome::Failed;
        let drain = &ticket.calls.drain;
        let result = match this.work.as_mut().poll(cx) {
            Poll::Ready(result) => {
                this.work.as_mut().discard();
                ticket.outcome = match &result {
                    Ok(_) => CallOutcome::Completed,
                    Err(_) if ticket.node.is_cancelled() => CallOutcome::Cancelled,
                    Err(_) => CallOutcome::Failed,
                };
                result
            }
            Poll::Pending => {
                ticket.outcome = CallOutcome::Cancelled;
                let waits = ticket.waits.any() || this.work.stage() == Stage::Waiting;
                if !*this.signalled {
                    ready!(this.termination.as_mut().poll(cx));
                    *this.signalled = true;
                    let give_up = drain.give_up.clone();
                    this.termination.set(Termination::new(give_up, None));
                }
                // What waits must not start any more, and has no use for the grace.
                if !waits {
                    ready!(this.termination.as_mut().poll(cx));
                }
                tracing::debug!(target: "tower_dspy", waits, "the shutdown ended a call");
                let spent = drop_scope::collect(Cause::Shutdown, || this.work.as_mut().discard());
                Err(Cancelled::new(Cause::Shutdown).with_spent(spent).into())
            }
        };
        *this.ticket = None;
        Poll::Ready(result)
    }
}

impl<S: Service<R>, R> fmt::Debug for ShutdownFuture<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownFuture")
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}
