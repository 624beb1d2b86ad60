//! The first service, then the fallback.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower::Service;

use super::{FallbackOptions, FallbackStrategy};
use crate::{
    call::{CallId, Cancel, drop_scope::ReportOnDrop, record::CallRecord},
    error::{Elapsed, costs_in},
    layers::{
        classify::{Classifier, Kinds},
        guard::{Limited, ReadyCall},
    },
};

pin_project! {
    /// The future of [`Fallback`](super::Fallback).
    ///
    /// Dropping it drops whichever of the two services is at work.
    pub struct FallbackFuture<S, A, C, R>
    where
        S: Service<R>,
        A: FallbackStrategy<R, S::Response, S::Error>,
    {
        #[pin]
        state: FallbackState<Limited<ReadyCall<S, R>>, A::Future>,
        answer: Option<A>,
        kept: Option<A::Kept>,
        kinds: Kinds,
        classify: C,
        cancel: Cancel,
        call: CallId,
        record: ReportOnDrop,
    }
}

pin_project! {
    #[project = FallbackStateProj]
    enum FallbackState<F, G> {
        First { #[pin] future: F },
        Second { #[pin] future: G },
    }
}

impl<S, A, C, R> FallbackFuture<S, A, C, R>
where
    S: Service<R>,
    A: FallbackStrategy<R, S::Response, S::Error>,
{
    pub(super) fn new(
        answer: A,
        kept: A::Kept,
        options: FallbackOptions<C>,
        cancel: Cancel,
        call: CallId,
        record: Option<Arc<CallRecord>>,
        first: Limited<ReadyCall<S, R>>,
    ) -> Self {
        Self {
            state: FallbackState::First { future: first },
            answer: Some(answer),
            kept: Some(kept),
            kinds: options.kinds,
            classify: options.classify,
            cancel,
            call,
            record: ReportOnDrop(record),
        }
    }
}

impl<S, A, C, R> Future for FallbackFuture<S, A, C, R>
where
    S: Service<R>,
    S::Error: From<Elapsed> + 'static,
    A: FallbackStrategy<R, S::Response, S::Error>,
    C: Classifier<S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.as_mut().project();
        let polled = match this.state.project() {
            FallbackStateProj::First { future } => future.poll(cx),
            FallbackStateProj::Second { future } => return future.poll(cx),
        };
        match polled {
            Poll::Ready(Ok(response)) => {
                if let (Some(answer), Some(kept)) = (this.answer, this.kept.take()) {
                    answer.record(kept, &response);
                }
                Poll::Ready(Ok(response))
            }
            Poll::Ready(Err(error)) => self.fall_back(error, cx),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S, A, C, R> FallbackFuture<S, A, C, R>
where
    S: Service<R>,
    S::Error: From<Elapsed> + 'static,
    A: FallbackStrategy<R, S::Response, S::Error>,
    C: Classifier<S::Error>,
{
    fn fall_back(
        self: Pin<&mut Self>,
        error: S::Error,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Response, S::Error>> {
        let mut this = self.project();
        let kind = this.classify.kind(&error);
        if !this.kinds.contains(kind) || this.cancel.is_cancelled() {
            return Poll::Ready(Err(error));
        }
        // Taken once: either the state changes or this is the end.
        let (Some(answer), Some(mut kept)) = (this.answer.take(), this.kept.take()) else {
            return Poll::Ready(Err(error));
        };
        if let Some(spent) = costs_in(&error) {
            CallRecord::follow(&mut this.record.0, spent);
        }
        if let Some(spent) = this.record.0.as_ref().and_then(CallRecord::spent) {
            answer.follow(&mut kept, &spent);
        }
        match answer.answer(error, kept) {
            Ok(future) => {
                tracing::debug!(
                    target: "tower_dspy",
                    call_id = this.call.get(),
                    ?kind,
                    "the call failed; its fallback answers",
                );
                this.state.set(FallbackState::Second { future });
            }
            Err(error) => return Poll::Ready(Err(error)),
        }
        match this.state.project() {
            FallbackStateProj::Second { future } => future.poll(cx),
            FallbackStateProj::First { .. } => Poll::Pending,
        }
    }
}

impl<S, A, C, R> fmt::Debug for FallbackFuture<S, A, C, R>
where
    S: Service<R>,
    A: FallbackStrategy<R, S::Response, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            FallbackState::First { .. } => "first",
            FallbackState::Second { .. } => "fallback",
        };
        f.debug_struct("FallbackFuture")
            .field("state", &state)
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}
