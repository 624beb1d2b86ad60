//! [`FallbackChain`]: one fallback after the other.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use super::FallbackStrategy;
use crate::call::{Cancel, Carrier, Spent};

/// A fallback, and another if that fails too; see [`FallbackLayer::or`](super::FallbackLayer::or).
///
/// The second is asked whatever the failure of the first was, but not for a call that has been
/// cancelled. Both see the request in its original context, and both learn from the answers of the
/// service that they stand in for, and from nothing else.
#[derive(Clone, Debug)]
pub struct FallbackChain<A, B> {
    first: A,
    next: B,
}

impl<A, B> FallbackChain<A, B> {
    /// `first`, and `next` if that fails.
    pub const fn new(first: A, next: B) -> Self {
        Self { first, next }
    }
}

impl<R, T, E, A, B> FallbackStrategy<R, T, E> for FallbackChain<A, B>
where
    R: Carrier,
    A: FallbackStrategy<R, T, E>,
    B: FallbackStrategy<R, T, E>,
{
    type Kept = (A::Kept, B::Kept, Cancel);
    type Future = FallbackChainFuture<R, T, E, A, B>;

    fn keep(&self, request: &R) -> Self::Kept {
        let cancel = request.context().map(|context| context.cancel.clone());
        (
            self.first.keep(request),
            self.next.keep(request),
            cancel.unwrap_or_default(),
        )
    }

    /// Both go on with the record of the service that they stand in for, and so the second with that
    /// of the first.
    fn follow(&self, (first, next, _): &mut Self::Kept, spent: &Spent) {
        self.first.follow(first, spent);
        self.next.follow(next, spent);
    }

    fn record(&self, (first, next, _): Self::Kept, answer: &T) {
        self.first.record(first, answer);
        self.next.record(next, answer);
    }

    fn answer(self, error: E, (first, next, cancel): Self::Kept) -> Result<Self::Future, E> {
        let state = match self.first.answer(error, first) {
            Ok(future) => ChainState::First {
                future,
                next: Some((self.next, next)),
                cancel,
            },
            Err(error) => ChainState::Next {
                future: self.next.answer(error, next)?,
            },
        };
        Ok(FallbackChainFuture { state })
    }
}

pin_project! {
    /// The future of [`FallbackChain`].
    pub struct FallbackChainFuture<R, T, E, A, B>
    where
        A: FallbackStrategy<R, T, E>,
        B: FallbackStrategy<R, T, E>,
    {
        #[pin]
        state: ChainState<A::Future, B::Future, (B, B::Kept)>,
    }
}

pin_project! {
    #[project = ChainStateProj]
    enum ChainState<F, G, N> {
        First { #[pin] future: F, next: Option<N>, cancel: Cancel },
        Next { #[pin] future: G },
    }
}

impl<R, T, E, A, B> Future for FallbackChainFuture<R, T, E, A, B>
where
    A: FallbackStrategy<R, T, E>,
    B: FallbackStrategy<R, T, E>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                ChainStateProj::First {
                    future,
                    next,
                    cancel,
                } => {
                    let error = match ready!(future.poll(cx)) {
                        Err(error) if !cancel.is_cancelled() => error,
                        result => return Poll::Ready(result),
                    };
                    // Taken once: either the state changes or this is the end.
                    let Some((next, kept)) = next.take() else {
                        return Poll::Ready(Err(error));
                    };
                    match next.answer(error, kept) {
                        Ok(future) => state.set(ChainState::Next { future }),
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
                ChainStateProj::Next { future } => return future.poll(cx),
            }
        }
    }
}

impl<R, T, E, A, B> fmt::Debug for FallbackChainFuture<R, T, E, A, B>
where
    A: FallbackStrategy<R, T, E>,
    B: FallbackStrategy<R, T, E>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            ChainState::First { .. } => "first",
            ChainState::Next { .. } => "next",
        };
        f.debug_struct("FallbackChainFuture")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
