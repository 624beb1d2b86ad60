//! The first service, then the fallback.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{
    FutureExt, TryFutureExt,
    future::{BoxFuture, OptionFuture},
};
use pin_project_lite::pin_project;
use tokio::select;
use tower::Service;

use super::FallbackStrategy;
use crate::{
    call::{
        CallId, Cancel, Deadline,
        drop_scope::ReportOnDrop,
        record::{CallRecord, timeline::AnswerSource},
    },
    error::{Elapsed, costs_in},
    layers::{
        between_attempts::{pending_once, settled_by},
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
        // Until the first has ended, and its work where that is waited for.
        pub(super) strategy: Option<(A, A::Kept)>,
        // The error of the first, until the fallback is asked.
        pub(super) failed: Option<S::Error>,
        // The node that the work of the first is below, where the fallback waits for its end.
        pub(super) work: Option<Cancel>,
        // When that wait ends at the latest.
        pub(super) waits_until: Option<Deadline>,
        pub(super) settling: Option<BoxFuture<'static, ()>>,
        // Once it is asked.
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
        if this.failed.is_none() && this.strategy.is_some() {
            let error = match ready!(this.guard.poll(this.first.as_mut(), cx)) {
                Err(error) => error,
                Ok(answer) => {
                    if let Some((strategy, kept)) = this.strategy.take() {
                        strategy.record(kept, &answer);
                    }
                    if let Some(record) = &this.record.0 {
                        // An earlier attempt may have been answered by a fallback.
                        record.answered_by(AnswerSource::Service);
                    }
                    return Poll::Ready(Ok(answer));
                }
            };
            if !this.kinds.contains(this.classify.kind(&error)) || this.cancel.is_cancelled() {
                *this.strategy = None;
                return Poll::Ready(Err(error));
            }
            this.first.as_mut().discard();
            if let Some(spent) = costs_in(&error) {
                CallRecord::follow(&mut this.record.0, spent);
            }
            *this.failed = Some(error);
            if let Some(work) = this.work.take() {
                let settling = work_ended(work, *this.waits_until, this.cancel.clone());
                *this.settling = Some(Box::pin(settling));
            }
        }
        if let Some(settling) = this.settling {
            ready!(settling.as_mut().poll(cx));
            *this.settling = None;
        }
        let (Some(error), Some((strategy, mut kept))) = (this.failed.take(), this.strategy.take())
        else {
            return Poll::Pending;
        };
        if this.cancel.is_cancelled() {
            return Poll::Ready(Err(error));
        }
        if let Some(spent) = this.record.0.as_ref().and_then(CallRecord::spent) {
            strategy.follow(&mut kept, &spent);
        }
        tracing::debug!(
            target: "tower_dspy",
            call_id = this.call.get(),
            kind = ?this.classify.kind(&error),
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
        fallback.as_mut().poll(cx)
    }
}

/// Waits until the work below `node` has ended, the call is cancelled or it is too late.
async fn work_ended(node: Cancel, until: Option<Deadline>, call: Cancel) {
    let cancelled = OptionFuture::from(call.cancelled_owned());
    let ended = select! {
        biased;
        Some(()) = cancelled => false,
        ended = settled_by(&node, until) => ended,
    };
    if !ended {
        pending_once().await;
    }
}

impl<S, A, C, R> fmt::Debug for FallbackFuture<S, A, C, R>
where
    S: Service<R>,
    A: FallbackStrategy<R, S::Response, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackFuture")
            .field(
                "failed",
                &(self.failed.is_some() || self.fallback.is_some()),
            )
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}
