//! The future of one call to another server.

use std::{
    fmt,
    future::{self, Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Fuse},
};

use crate::{
    error::{Cancelled, Error},
    request::Prediction,
    service::termination::ServiceTermination,
};

type Answer = Result<Prediction, Error>;

/// The answer to come of a [`ProgramClient`](super::ProgramClient).
///
/// # Cancel safety
/// Dropping it resets the stream.
#[must_use = "a future does nothing unless polled"]
pub struct ProgramFuture(Fuse<BoxFuture<'static, Answer>>);

impl ProgramFuture {
    pub(super) fn refused(error: Error) -> Self {
        Self(future::ready(Err(error)).boxed().fuse())
    }

    pub(super) fn new(
        mut termination: ServiceTermination,
        call: impl Future<Output = Answer> + Send + 'static,
    ) -> Self {
        // Without a call it was reset.
        let mut call = Some(call.boxed());
        let work = poll_fn(move |cx| match &mut call {
            // What is ready wins the tie with the clock.
            Some(work) => match work.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(result),
                Poll::Pending => termination.poll(cx, |_| call = None).map(Err),
            },
            None => Poll::Ready(Err(Cancelled::new(termination.reason()).into())),
        });
        Self(work.boxed().fuse())
    }
}

impl Future for ProgramFuture {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        self.0.poll_unpin(cx)
    }
}

impl fmt::Debug for ProgramFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgramFuture").finish_non_exhaustive()
    }
}
