//! The future of a call that a shutdown may end.

use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tower::Service;

use super::calls::{Calls, End, Ticket};
use crate::{
    call::{Cause, drop_scope},
    error::{Cancelled, Stage},
    layers::guard::{
        Admit, Work,
        enclosing::{self, End as Ending},
        observe,
    },
};

pin_project! {
    /// The response future of [`ShutdownService`](super::ShutdownService).
    pub struct ShutdownFuture<S, R>
    where
        S: Service<R>,
    {
        #[pin]
        work: Admit<S, R>,
        // After the work: a call is in flight as long as it holds something.
        ticket: Option<Ticket>,
        #[pin]
        bell: Bell,
        refused: bool,
    }
}

pin_project! {
    /// Rings when the calls are told to stop, and again when their grace has ended.
    #[project = BellProj]
    enum Bell {
        Unset,
        Stop { #[pin] wait: WaitForCancellationFutureOwned },
        GiveUp { #[pin] wait: WaitForCancellationFutureOwned },
    }
}

impl Bell {
    /// Ready if the call is to end: when the grace has ended, or, if it `waits`, when the calls
    /// were told to stop.
    fn poll(
        mut self: Pin<&mut Self>,
        calls: &Calls,
        waits: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            let next = match self.as_mut().project() {
                BellProj::Unset => Self::Stop {
                    wait: calls.stop.clone().cancelled_owned(),
                },
                BellProj::Stop { wait } => {
                    ready!(wait.poll(cx));
                    Self::GiveUp {
                        wait: calls.give_up.clone().cancelled_owned(),
                    }
                }
                BellProj::GiveUp { .. } if waits => return Poll::Ready(()),
                BellProj::GiveUp { wait } => return wait.poll(cx),
            };
            self.set(next);
        }
    }
}

impl<S: Service<R>, R> ShutdownFuture<S, R> {
    pub(super) const fn admitted(work: Admit<S, R>, ticket: Ticket) -> Self {
        Self {
            work,
            ticket: Some(ticket),
            bell: Bell::Unset,
            refused: false,
        }
    }

    pub(super) const fn refused() -> Self {
        Self {
            work: Admit::Gone,
            ticket: None,
            bell: Bell::Unset,
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
        // Inner layers leave the end to this one from when the grace began, or they would drop what
        // could still clean up.
        let ending = ticket.calls.told().map(|at| Ending {
            at,
            grace: true,
            begun: true,
        });
        // So it stays if the poll, or the drop after it, panics.
        ticket.end = End::Failed;
        let (polled, waits) = observe(|| enclosing::with(ending, || this.work.as_mut().poll(cx)));
        let result = match polled {
            Poll::Ready(result) => {
                this.work.as_mut().discard();
                ticket.end = match &result {
                    Ok(_) => End::Completed,
                    Err(_) if ticket.node.is_cancelled() => End::Cancelled,
                    Err(_) => End::Failed,
                };
                result
            }
            Poll::Pending => {
                ticket.end = End::Cancelled;
                let waits = waits || this.work.stage() == Stage::Waiting;
                ready!(this.bell.as_mut().poll(&ticket.calls, waits, cx));
                tracing::debug!(target: "tower_dspy", waits, "the shutdown ended a call");
                let spent = drop_scope::collect(Cause::Shutdown, || this.work.as_mut().discard());
                Err(Cancelled::new(Cause::Shutdown).with_spent(spent).into())
            }
        };
        // What is done listens to no bell.
        this.bell.set(Bell::Unset);
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
