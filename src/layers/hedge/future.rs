//! Two attempts at one call.
//!
//! Invariants:
//! 1. The first attempt is polled before the second, and both before the clock: what is ready wins.
//! 2. Nothing is asked of the second attempt's service before it is due, so a clone that waits for
//!    its turn holds no readiness that others wait for.
//! 3. What the second attempt costs is set aside when it is due and spent when its service has
//!    taken it; dropped in between, it was never sent.
//! 4. When an answer is handed out neither attempt is there any more.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tower::Service;

use super::plan::{HedgeTerms, SecondAttempt};
use crate::{
    call::{
        Carrier, Cause, Deadline, Progress, drop_scope,
        drop_scope::ReportOnDrop,
        record::{CallRecord, timeline::AttemptKind},
        termination::poll_timer,
    },
    error::{ErrorKind, Stage, costs_in, set_costs_in},
    layers::{
        classify::{Classifier, Kinds},
        guard::{ReadyCall, Work},
        latency::Stopwatch,
        retry::Reservation,
    },
    telemetry::metrics,
};

/// The other attempt would only say the same. Not so `ShuttingDown`: what runs may still be drained.
const FINAL: Kinds = Kinds::of(&[
    ErrorKind::InvalidInput,
    ErrorKind::LmRejected,
    ErrorKind::Cancelled,
    ErrorKind::Deadline,
]);

type HedgeResult<S, R> = Result<<S as Service<R>>::Response, <S as Service<R>>::Error>;

pin_project! {
    /// The response future of [`Hedge`](super::Hedge).
    ///
    /// Dropping it drops both attempts, and gives a second one that was not sent yet back to the
    /// budget.
    pub struct HedgeFuture<S, C, R>
    where
        S: Service<R>,
    {
        #[pin]
        pub(super) first: ReadyCall<S, R>,
        #[pin]
        pub(super) second: ReadyCall<S, R>,
        #[pin]
        pub(super) timer: Option<Sleep>,
        // Until the second attempt is due.
        pub(super) planned: Option<SecondAttempt<S, R>>,
        // What of the second attempt waits for a service.
        pub(super) second_progress: Progress,
        // Until the service of the second attempt is ready.
        pub(super) reservation: Option<Reservation>,
        pub(super) terms: HedgeTerms,
        pub(super) stopwatch: Stopwatch,
        pub(super) classify: C,
        // Of both attempts.
        pub(super) record: ReportOnDrop,
    }
}

impl<S, C, R> Future for HedgeFuture<S, C, R>
where
    S: Service<R, Error: 'static>,
    C: Classifier<S::Error>,
    R: Carrier,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(result) = self.as_mut().poll_first(cx)
            && let Poll::Ready(result) = self.as_mut().end(true, result)
        {
            return Poll::Ready(result);
        }
        self.as_mut().poll_due(cx);
        match self.as_mut().poll_second(cx) {
            Poll::Ready(result) => self.end(false, result),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: Service<R>, C, R: Carrier> HedgeFuture<S, C, R> {
    fn poll_first(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<HedgeResult<S, R>> {
        let mut this = self.project();
        // The time it waits for its service is not the attempt's.
        let waits = this.stopwatch.started().is_none();
        let now = waits.then(Instant::now);
        let polled = this.first.as_mut().poll(cx);
        if let Some(now) = now
            && this.first.stage() == Stage::Running
            && !this.terms.call.progress.waits()
        {
            this.stopwatch.start(now);
        }
        polled
    }

    /// Has the second attempt wait for its service, if it is due and may be sent.
    fn poll_due(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let mut this = self.project();
        let (Some(planned), Some(started)) = (&*this.planned, this.stopwatch.started()) else {
            return;
        };
        let due = Deadline::at(started).later_by(planned.delay);
        if poll_timer(this.timer.as_mut(), due, cx).is_pending() {
            return;
        }
        this.timer.set(None);
        if let Some(SecondAttempt {
            service,
            mut request,
            ..
        }) = this.planned.take()
            && this.terms.hold()
            && let Some(reservation) = this.terms.reserve()
        {
            *this.reservation = Some(reservation);
            // The layers around it are not to hear: the call does not wait while an attempt runs.
            let progress = Progress::none().inside();
            let context = request.context_mut();
            context.progress = progress.clone();
            if let Some(record) = &context.record {
                record.begin_other_attempt(context.attempt, AttemptKind::Hedge);
            }
            *this.second_progress = progress.clone();
            this.second.set(ReadyCall::new(service, request, progress));
        }
    }

    fn poll_second(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<HedgeResult<S, R>> {
        let mut this = self.as_mut().project();
        let waits = this.reservation.is_some() || this.second_progress.waits();
        let has_first = !matches!(&*this.first, ReadyCall::Gone);
        if waits && has_first && !this.terms.hold() {
            // It must not start late.
            self.drop_second();
            return Poll::Pending;
        }
        let polled = this.second.as_mut().poll(cx);
        if this.second.stage() == Stage::Running
            && let Some(reservation) = this.reservation.take()
        {
            reservation.spend();
            metrics::hedge_sent();
            tracing::debug!(
                target: "tower_dspy",
                call_id = this.terms.call_id(),
                attempt = this.terms.call.attempt.saturating_add(1),
                "the attempt is slow; a second one runs beside it",
            );
        }
        polled
    }

    fn drop_first(self: Pin<&mut Self>) {
        let this = self.project();
        this.stopwatch.stopped();
        this.first.discard();
    }

    fn drop_second(self: Pin<&mut Self>) {
        let this = self.project();
        *this.planned = None;
        *this.reservation = None;
        this.second.discard();
    }

    fn drop_both(mut self: Pin<&mut Self>) {
        self.as_mut().drop_first();
        self.drop_second();
    }
}

impl<S, C, R> HedgeFuture<S, C, R>
where
    S: Service<R, Error: 'static>,
    C: Classifier<S::Error>,
    R: Carrier,
{
    /// The answer of the call, now that one of its attempts has ended; none yet if that failed and
    /// the other goes on.
    fn end(
        mut self: Pin<&mut Self>,
        is_first: bool,
        result: HedgeResult<S, R>,
    ) -> Poll<HedgeResult<S, R>> {
        let this = self.as_mut().project();
        let mut error = match result {
            Err(error) => error,
            Ok(response) => {
                if !is_first && let Some(stream) = this.second_progress.stream() {
                    this.terms.call.progress.open_stream(&stream);
                }
                this.terms.budget.deposit_answer();
                if is_first {
                    this.stopwatch.answered();
                } else {
                    metrics::hedge_won();
                }
                drop_scope::with(Cause::Superseded, || self.drop_both());
                return Poll::Ready(Ok(response));
            }
        };
        let kind = this.classify.kind(&error);
        if is_first {
            this.stopwatch.failed(kind);
        }
        if let Some(spent) = costs_in(&error) {
            CallRecord::follow(&mut this.record.0, spent);
        }
        let first = is_sent(&this.first);
        let second = is_sent(&this.second) && !this.second_progress.waits();
        let (sent, other_sent) = if is_first {
            (first, second)
        } else {
            (second, first)
        };
        if other_sent && !(sent && FINAL.contains(kind)) {
            tracing::debug!(
                target: "tower_dspy",
                call_id = this.terms.call_id(),
                is_first,
                ?kind,
                "one of two attempts failed; the other goes on",
            );
            if is_first {
                self.drop_first();
            } else {
                self.drop_second();
            }
            return Poll::Pending;
        }
        let cause = match kind {
            ErrorKind::Deadline => Some(Cause::Deadline),
            ErrorKind::Cancelled => this.terms.call.cancel.cause(),
            _ => None,
        };
        let cause = cause.unwrap_or(Cause::Superseded);
        let record = this.record.0.clone();
        let both = drop_scope::end(cause, record.as_ref(), || self.drop_both());
        if let Some(spent) = both.spent {
            set_costs_in(&mut error, &spent);
        }
        Poll::Ready(Err(error))
    }
}

/// Whether the service has taken the attempt, which has not been dropped since.
const fn is_sent<S: Service<R>, R>(attempt: &ReadyCall<S, R>) -> bool {
    matches!(attempt, ReadyCall::Running { .. })
}

impl<S: Service<R>, C, R> fmt::Debug for HedgeFuture<S, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeFuture")
            .field("first_sent", &is_sent(&self.first))
            .field("second_sent", &is_sent(&self.second))
            .finish_non_exhaustive()
    }
}
