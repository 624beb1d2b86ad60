//! One attempt after the other.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tower::{Service, retry::Policy};

use super::policy::{RetryPolicy, RetryWait};
use crate::{
    call::{Carrier, Deadline, drop_scope::ReportOnDrop, record::CallRecord},
    error::costs_in,
    layers::classify::Classifier,
};

pin_project! {
    /// The response future of [`Retry`](super::Retry).
    ///
    /// Dropping it drops the attempt that runs, and gives a retry that was not sent yet back to the
    /// budget.
    pub struct RetryFuture<S, C, R>
    where
        S: Service<R>,
    {
        #[pin]
        state: RetryState<S::Future, S::Error>,
        service: S,
        policy: RetryPolicy<C>,
        request: Option<R>,
        record: ReportOnDrop,
    }
}

pin_project! {
    #[project = RetryStateProj]
    enum RetryState<F, E> {
        Attempt { #[pin] future: F },
        Between { #[pin] pause: RetryPause<E> },
    }
}

pin_project! {
    /// The time between two attempts.
    #[project = RetryPauseProj]
    struct RetryPause<E> {
        #[pin]
        wait: RetryWait,
        waited: bool,
        given_up: bool,
        #[pin]
        cancelled: Option<WaitForCancellationFutureOwned>,
        // The last attempt's: it is the answer if there will be no further one.
        error: Option<E>,
    }
}

impl<S: Service<R>, C, R> RetryFuture<S, C, R> {
    pub(super) const fn new(
        service: S,
        policy: RetryPolicy<C>,
        request: Option<R>,
        record: Option<Arc<CallRecord>>,
        first: S::Future,
    ) -> Self {
        Self {
            service,
            policy,
            request,
            record: ReportOnDrop(record),
            state: RetryState::Attempt { future: first },
        }
    }
}

impl<S, C, R> Future for RetryFuture<S, C, R>
where
    S: Service<R, Error: 'static>,
    C: Classifier<S::Error>,
    R: Carrier + Clone,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.as_mut().project();
        let polled = match this.state.project() {
            RetryStateProj::Attempt { future } => future.poll(cx),
            RetryStateProj::Between { .. } => return self.poll_later(None, cx),
        };
        match polled {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
            Poll::Ready(Err(error)) => self.poll_later(Some(error), cx),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S, C, R> RetryFuture<S, C, R>
where
    S: Service<R, Error: 'static>,
    C: Classifier<S::Error>,
    R: Carrier + Clone,
{
    /// Goes on after an attempt that `failed`, or between two.
    fn poll_later(
        mut self: Pin<&mut Self>,
        mut failed: Option<S::Error>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Response, S::Error>> {
        loop {
            if let Some(error) = failed.take()
                && let Some(error) = self.as_mut().pause(error)
            {
                return Poll::Ready(Err(error));
            }
            ready!(self.as_mut().poll_pause(cx))?;
            let this = self.as_mut().project();
            let polled = match this.state.project() {
                RetryStateProj::Attempt { future } => future.poll(cx),
                RetryStateProj::Between { .. } => Poll::Pending,
            };
            match polled {
                Poll::Ready(Err(error)) => failed = Some(error),
                polled => return polled,
            }
        }
    }

    /// Prepares for another attempt, or gives the error back if there is to be none.
    fn pause(self: Pin<&mut Self>, error: S::Error) -> Option<S::Error> {
        let mut this = self.project();
        let Some(request) = this.request else {
            return Some(error);
        };
        let mut result = Err(error);
        let wait = Policy::<R, S::Response, S::Error>::retry(this.policy, request, &mut result);
        let Some(wait) = wait else {
            return result.err();
        };
        let context = request.context_mut();
        if let Err(error) = &result {
            match costs_in(error) {
                Some(spent) => context.follow(spent),
                None => _ = context.open_record(),
            }
        }
        this.record.0.clone_from(&context.record);
        let cancelled = context.cancel.cancelled_owned();
        let pause = RetryPause {
            wait,
            waited: false,
            given_up: false,
            cancelled,
            error: result.err(),
        };
        this.state.set(RetryState::Between { pause });
        None
    }

    /// Ready when the next attempt has begun, and with the last one's error if there will be none.
    fn poll_pause(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let mut this = self.project();
        let RetryStateProj::Between { pause } = this.state.as_mut().project() else {
            return Poll::Ready(Ok(()));
        };
        let RetryPauseProj {
            wait,
            waited,
            given_up,
            cancelled,
            error,
        } = pause.project();
        if *given_up {
            return error
                .take()
                .map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
        }
        let cancelled = cancelled.as_pin_mut();
        *given_up = cancelled.is_some_and(|cancelled| cancelled.poll(cx).is_ready());
        if !*given_up {
            if !*waited {
                ready!(wait.poll(cx));
                *waited = true;
            }
            ready!(this.service.poll_ready(cx))?;
            // It may have been ready too late.
            let context = this.request.as_ref().and_then(Carrier::context);
            let deadline = context.and_then(|context| context.deadline);
            *given_up = deadline.is_some_and(Deadline::is_past);
        }
        if *given_up {
            // The layer that ends the call is around this one and polls its work first: an answer
            // now would win the tie and hide what happened. If there is none, the answer comes
            // with the next poll.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Taken once: the state changes right after.
        let Some(request) = this.request.take() else {
            return Poll::Pending;
        };
        *this.request = Policy::<R, S::Response, S::Error>::clone_request(this.policy, &request);
        let future = this.service.call(request);
        this.state.set(RetryState::Attempt { future });
        Poll::Ready(Ok(()))
    }
}

impl<S: Service<R>, C, R> fmt::Debug for RetryFuture<S, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            RetryState::Attempt { .. } => "attempt",
            RetryState::Between { .. } => "between attempts",
        };
        f.debug_struct("RetryFuture")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
