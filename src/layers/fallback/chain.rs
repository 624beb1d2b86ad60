//! [`FallbackChain`]: one fallback after the other.

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
    R: Carrier + 'static,
    T: 'static,
    E: Send + 'static,
    A: FallbackStrategy<R, T, E, Kept: Send + 'static> + Send + 'static,
    B: FallbackStrategy<R, T, E, Kept: Send + 'static> + Send + 'static,
{
    type Kept = (A::Kept, B::Kept, Cancel);

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

    async fn answer(self, error: E, (first, next, cancel): Self::Kept) -> Result<T, E> {
        let error = match self.first.answer(error, first).await {
            Err(error) if !cancel.is_cancelled() => error,
            result => return result,
        };
        self.next.answer(error, next).await
    }
}
