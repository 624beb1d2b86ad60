//! The first service, then the fallback.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{FutureExt, TryFutureExt, future::BoxFuture};
use pin_project_lite::pin_project;
use tower::Service;

use super::FallbackStrategy;
use crate::{
    call::{
        CallId, Cancel,
        drop_scope::ReportOnDrop,
        record::{CallRecord, timeline::AnswerSource},
    },
    error::{Elapsed, costs_in},
    layers::{
        classify::{Classifier, Kinds},
        guard::{Guard, LimitAlarm, ReadyCall, Work},
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
        pub(super) first: ReadyCall<S, R>,
        pub(super) guard: Guard<LimitAlarm>,
        // Until the first has ended.
        pub(super) strategy: Option<(A, A::Kept)>,
        // Once the first has failed.
        pub(super) fallback: Option<BoxFuture<'static, Result<S::Response, S::Error>>>,
        pub(super) kinds: Kinds,
        pub(super) classify: C,
        pub(super) cancel: Cancel,
        pub(super) call: CallId,
        pub(super) record: ReportOnDrop,
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

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(fallback) = this.fallback {
            return fallback.as_mut().poll(cx);
        }
        let result = ready!(this.guard.poll(this.first.as_mut(), cx));
        let Some((strategy, mut kept)) = this.strategy.take() else {
            return Poll::Ready(result);
        };
        let error = match result {
            Err(error) => error,
            Ok(answer) => {
                strategy.record(kept, &answer);
                if let Some(record) = &this.record.0 {
                    // An earlier attempt may have been answered by a fallback.
                    record.answered_by(AnswerSource::Service);
                }
                return Poll::Ready(Ok(answer));
            }
        };
        let kind = this.classify.kind(&error);
        if !this.kinds.contains(kind) || this.cancel.is_cancelled() {
            return Poll::Ready(Err(error));
        }
        if let Some(spent) = costs_in(&error) {
            CallRecord::follow(&mut this.record.0, spent);
        }
        if let Some(spent) = this.record.0.as_ref().and_then(CallRecord::spent) {
            strategy.follow(&mut kept, &spent);
        }
        tracing::debug!(
            target: "tower_dspy",
            call_id = this.call.get(),
            ?kind,
            "the call failed; its fallback is asked",
        );
        let (source, record) = (strategy.source(), this.record.0.clone());
        if let Some(record) = &record {
            record.begin_fallback();
        }
        let answer = strategy.answer(error, kept);
        let answer = answer.inspect_ok(move |_| {
            if let Some(record) = record {
                record.answered_by(source);
            }
        });
        let fallback = this.fallback.insert(Box::pin(answer.fuse()));
        this.first.discard();
        fallback.as_mut().poll(cx)
    }
}

impl<S, A, C, R> fmt::Debug for FallbackFuture<S, A, C, R>
where
    S: Service<R>,
    A: FallbackStrategy<R, S::Response, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackFuture")
            .field("failed", &self.fallback.is_some())
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}
