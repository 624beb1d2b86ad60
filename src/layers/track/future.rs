//! The future of a tracked call.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower::Service;

use super::ticket::TrackTicket;
use crate::{
    call::{CallEnd, Progress},
    error::{Stage, set_call_id_in},
    layers::{
        classify::Classifier,
        guard::{ReadyCall, Work},
    },
};

pin_project! {
    /// The response future of [`Track`](super::Track).
    pub struct TrackFuture<S, R, C>
    where
        S: Service<R>,
    {
        #[pin]
        pub(super) work: ReadyCall<S, R>,
        // After the work: a call has not left the tracker while it holds something.
        pub(super) ticket: Option<TrackTicket>,
        pub(super) progress: Progress,
        pub(super) classify: C,
    }

    impl<S, R, C> PinnedDrop for TrackFuture<S, R, C>
    where
        S: Service<R>,
    {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if let Some(ticket) = this.ticket {
                let _entered = ticket.span.enter();
                this.work.as_mut().discard();
            }
        }
    }
}

impl<S, R, C> Future for TrackFuture<S, R, C>
where
    S: Service<R>,
    S::Error: 'static,
    C: Classifier<S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(ticket) = this.ticket else {
            return Poll::Pending;
        };
        let entered = ticket.span.enter();
        // So it stays if the poll, or the drop after it, panics.
        ticket.end = CallEnd::Failed(None);
        let polled = this.work.as_mut().poll(cx);
        let waits = this.progress.waits() || polled.is_ready() && this.progress.wait_ended();
        let runs = this.work.stage() == Stage::Running && !waits;
        if polled.is_ready() {
            this.work.as_mut().discard();
        }
        drop(entered);
        if runs {
            ticket.runs();
        }
        let Poll::Ready(mut result) = polled else {
            ticket.end = CallEnd::Dropped;
            return Poll::Pending;
        };
        match &mut result {
            Ok(_) => {
                ticket.end = CallEnd::Completed;
                if let Some(stream) = this.progress.stream()
                    && let Some(ticket) = this.ticket.take()
                {
                    stream.hold(move |end| ticket.end(end));
                }
            }
            Err(error) => {
                set_call_id_in(error, ticket.call.id);
                let cause = this.classify.cancel_cause(error);
                ticket.end = CallEnd::of_error(this.classify.kind(error), cause);
            }
        }
        *this.ticket = None;
        Poll::Ready(result)
    }
}

impl<S: Service<R>, R, C> fmt::Debug for TrackFuture<S, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackFuture").finish_non_exhaustive()
    }
}
