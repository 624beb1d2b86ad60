//! The future of one call to another server.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use crate::{
    error::{Cancelled, Error},
    request::Prediction,
    service::termination::ServiceTermination,
};

type Call = Pin<Box<dyn Future<Output = Result<Prediction, Error>> + Send>>;

pin_project! {
    /// The answer to come of a [`ProgramClient`](super::ProgramClient).
    ///
    /// # Cancel safety
    /// Dropping it resets the stream.
    #[must_use = "a future does nothing unless polled"]
    pub struct ProgramFuture {
        #[pin]
        state: State,
    }
}

pin_project! {
    #[project = StateProj]
    enum State {
        Refused { error: Option<Error> },
        // Without a call it was reset.
        Sent { termination: ServiceTermination, call: Option<Call> },
        Done,
    }
}

impl ProgramFuture {
    pub(super) const fn refused(error: Error) -> Self {
        Self {
            state: State::Refused { error: Some(error) },
        }
    }

    pub(super) fn new(
        termination: ServiceTermination,
        call: impl Future<Output = Result<Prediction, Error>> + Send + 'static,
    ) -> Self {
        Self {
            state: State::Sent {
                termination,
                call: Some(Box::pin(call)),
            },
        }
    }
}

impl Future for ProgramFuture {
    type Output = Result<Prediction, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let result = match state.as_mut().project() {
            StateProj::Refused { error } => match error.take() {
                Some(error) => Err(error),
                None => return Poll::Pending,
            },
            StateProj::Sent { termination, call } => match call {
                // What is ready wins the tie with the clock.
                Some(work) => match work.as_mut().poll(cx) {
                    Poll::Ready(result) => result,
                    Poll::Pending => Err(ready!(termination.poll(cx, |_| *call = None))),
                },
                None => Err(Cancelled::new(termination.reason()).into()),
            },
            StateProj::Done => return Poll::Pending,
        };
        state.set(State::Done);
        Poll::Ready(result)
    }
}

impl fmt::Debug for ProgramFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgramFuture").finish_non_exhaustive()
    }
}
