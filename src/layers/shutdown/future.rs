//! The response future of a call that a shutdown may end.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower::Service;

use super::calls::{CallOutcome, ShutdownTicket};
use crate::{
    call::{Cause, drop_scope, termination::Termination},
    error::{Cancelled, Stage},
    layers::guard::{ReadyCall, Work},
};

pin_project! {
    /// The response future of [`ShutdownService`](super::ShutdownService).
    pub struct ShutdownFuture<S, R>
    where
        S: Service<R>,
    {
        // `ReadyCall::Failed` for a refused call.
        #[pin]
        pub(super) work: ReadyCall<S, R>,
        // After the work: a call is in flight as long as it holds something.
        pub(super) ticket: Option<ShutdownTicket>,
        // First that the calls are signalled to stop, then that their grace has ended.
        #[pin]
        pub(super) termination: Termination,
        pub(super) signalled: bool,
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
        let Some(ticket) = this.ticket else {
            return this.work.poll(cx);
        };
        // So it stays if the poll, or the drop after it, panics.
        ticket.outcome = CallOutcome::Failed;
        let drain = &ticket.calls.drain;
        let result = match this.work.as_mut().poll(cx) {
            Poll::Ready(result) => {
                this.work.as_mut().discard();
                match &result {
                    Ok(_) => ticket.outcome = CallOutcome::Completed,
                    Err(_) => ticket.failed(),
                }
                if result.is_ok()
                    && let Some(stream) = ticket.progress.stream()
                    && let Some(ticket) = this.ticket.take()
                {
                    stream.hold(move |end| ticket.end(end));
                }
                result
            }
            Poll::Pending => {
                ticket.outcome = CallOutcome::Cancelled;
                let waits = ticket.progress.waits() || this.work.stage() == Stage::Waiting;
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
                let cancelled = Cancelled::new(Cause::Shutdown).with_spent(spent);
                Err(cancelled.with_call_id(ticket.call).into())
            }
        };
        *this.ticket = None;
        Poll::Ready(result)
    }
}

impl<S: Service<R>, R> fmt::Debug for ShutdownFuture<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownFuture")
            .field("in_flight", &self.ticket.is_some())
            .finish_non_exhaustive()
    }
}
