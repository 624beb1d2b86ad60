//! What answers in place of a call that failed.

use std::{fmt, future::ready, sync::Arc};

use tower::{Service, ServiceExt};

use crate::call::{Carrier, Spent, record::timeline::AnswerSource};

/// Answers in place of a call that failed: a [`Value`], a [closure](FallbackFn), a
/// [service](FallbackService), one [after the other](super::FallbackChain), with the feature `stale` the last good
/// answer (`Stale`), or an implementation of your own.
///
/// It is cloned for each call, so a clone is to be cheap.
pub trait FallbackStrategy<R, T, E> {
    /// What it needs of the request, kept while the first service has it.
    type Kept;

    /// Takes from `request`, in its original context, what [`answer`](Self::answer) will need.
    fn keep(&self, request: &R) -> Self::Kept;

    /// Has the answer go on with the record of the call that failed and `spent` this, as
    /// [`CallContext::follow`](crate::CallContext::follow) does.
    fn follow(&self, _kept: &mut Self::Kept, _spent: &Spent) {}

    /// Looks at the answer of the first service, which is about to be returned, as a cache does.
    /// By default nothing.
    #[inline]
    fn record(&self, _kept: Self::Kept, _answer: &T) {}

    /// What its answer is, on the [timeline](crate::timeline::CallTimeline) of the call. By default
    /// [`AnswerSource::Fallback`](crate::timeline::AnswerSource::Fallback).
    #[inline]
    fn source(&self) -> AnswerSource {
        AnswerSource::Fallback
    }

    /// Answers in place of `error`, or returns it if there is no sense in that.
    fn answer(
        self,
        error: E,
        kept: Self::Kept,
    ) -> impl Future<Output = Result<T, E>> + Send + 'static;
}

/// The same answer each time.
#[derive(Clone)]
pub struct Value<T>(Arc<T>);

impl<T> Value<T> {
    /// Answers with clones of `value`.
    pub fn new(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<R, T, E> FallbackStrategy<R, T, E> for Value<T>
where
    T: Clone + Send + 'static,
    E: Send + 'static,
{
    type Kept = ();

    fn keep(&self, _: &R) {}

    fn answer(self, _: E, (): ()) -> impl Future<Output = Result<T, E>> + Send + 'static {
        ready(Ok(Arc::unwrap_or_clone(self.0)))
    }
}

/// An answer may repeat a prompt, so it is not shown.
impl<T> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(..)")
    }
}

/// The answer of a closure.
pub struct FallbackFn<F>(Arc<F>);

impl<F> FallbackFn<F> {
    /// Answers with what `f` makes of the error and the original request.
    pub fn new(f: F) -> Self {
        Self(Arc::new(f))
    }
}

impl<R, T, E, F, Fut> FallbackStrategy<R, T, E> for FallbackFn<F>
where
    R: Clone,
    F: Fn(E, R) -> Fut,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
{
    type Kept = R;

    fn keep(&self, request: &R) -> R {
        request.clone()
    }

    fn answer(self, error: E, request: R) -> impl Future<Output = Result<T, E>> + Send + 'static {
        (self.0)(error, request)
    }
}

impl<F> Clone for FallbackFn<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F> fmt::Debug for FallbackFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FallbackFn(..)")
    }
}

/// The answer of a second service, which is waited for until it is ready.
#[derive(Clone, Debug)]
pub struct FallbackService<S>(S);

impl<S> FallbackService<S> {
    /// Sends the original request to a clone of `service`.
    pub const fn new(service: S) -> Self {
        Self(service)
    }
}

impl<R, S> FallbackStrategy<R, S::Response, S::Error> for FallbackService<S>
where
    R: Carrier + Clone + Send + 'static,
    S: Service<R, Error: Send, Future: Send> + Send + 'static,
{
    type Kept = R;

    fn keep(&self, request: &R) -> R {
        request.clone()
    }

    fn follow(&self, request: &mut R, spent: &Spent) {
        request.context_mut().follow(spent);
    }

    async fn answer(self, error: S::Error, request: R) -> Result<S::Response, S::Error> {
        let deadline = request.context().and_then(|context| context.deadline);
        if deadline.is_some_and(|deadline| deadline.is_past()) {
            // It would be refused there, with an error that says less.
            return Err(error);
        }
        self.0.oneshot(request).await
    }
}
