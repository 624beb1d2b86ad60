//! The first service, then the fallback.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower::Service;

use super::Answer;
use crate::{
    CallId, Cancel, Elapsed,
    layers::{
        classify::{Classifier, Kinds},
        guard::{Admit, Limited},
    },
};

pin_project! {
    /// The future of [`Fallback`](super::Fallback).
    ///
    /// Dropping it drops whichever of the two services is at work.
    pub struct FallbackFuture<S, A, C, R>
    where
        S: Service<R>,
        A: Answer<R, S::Response, S::Error>,
    {
        #[pin]
        state: State<Limited<Admit<S, R>>, A::Future>,
        second: Option<Second<A, A::Kept>>,
        kinds: Kinds,
        classify: C,
        cancel: Cancel,
        call: CallId,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, G> {
        First { #[pin] future: F },
        Second { #[pin] future: G },
    }
}

/// The fallback, and what it needs of the request.
pub(super) struct Second<A, K> {
    pub(super) answer: A,
    pub(super) kept: K,
}

impl<S, A, C, R> FallbackFuture<S, A, C, R>
where
    S: Service<R>,
    A: Answer<R, S::Response, S::Error>,
{
    #[inline(always)]
    pub(super) const fn new(
        second: Second<A, A::Kept>,
        kinds: Kinds,
        classify: C,
        cancel: Cancel,
        call: CallId,
        first: Limited<Admit<S, R>>,
    ) -> Self {
        Self {
            state: State::First { future: first },
            second: Some(second),
            kinds,
            classify,
            cancel,
            call,
        }
    }
}

impl<S, A, C, R> Future for FallbackFuture<S, A, C, R>
where
    S: Service<R>,
    S::Error: From<Elapsed>,
    A: Answer<R, S::Response, S::Error>,
    C: Classifier<S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let error = match this.state.as_mut().project() {
                StateProj::First { future } => match ready!(future.poll(cx)) {
                    Ok(response) => {
                        if let Some(second) = this.second.take() {
                            second.answer.learn(second.kept, &response);
                        }
                        return Poll::Ready(Ok(response));
                    }
                    Err(error) => error,
                },
                StateProj::Second { future } => return future.poll(cx),
            };
            let kind = this.classify.kind(&error);
            if !this.kinds.contains(kind) || this.cancel.is_cancelled() {
                return Poll::Ready(Err(error));
            }
            // Taken once: either the state changes or this is the end.
            let Some(mut second) = this.second.take() else {
                return Poll::Ready(Err(error));
            };
            if let Some(spent) = this.classify.spent(&error) {
                second.answer.follow(&mut second.kept, spent);
            }
            match second.answer.answer(error, second.kept) {
                Ok(future) => {
                    tracing::debug!(
                        target: "tower_dspy",
                        call_id = this.call.get(),
                        ?kind,
                        "the call failed; its fallback answers",
                    );
                    this.state.set(State::Second { future });
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl<S, A, C, R> fmt::Debug for FallbackFuture<S, A, C, R>
where
    S: Service<R>,
    A: Answer<R, S::Response, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::First { .. } => "first",
            State::Second { .. } => "fallback",
        };
        f.debug_struct("FallbackFuture")
            .field("state", &state)
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}
