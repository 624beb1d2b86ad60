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
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::Service;

use super::plan::{HedgeTerms, SecondAttempt};
use crate::{
    call::{Cause, Deadline, Waits, drop_scope, drop_scope::ReportOnDrop, record::CallRecord},
    error::{ErrorKind, Stage, costs_in, set_costs_in},
    layers::{
        classify::{Classifier, Kinds},
        guard::{ReadyCall, Work},
        latency::Stopwatch,
        retry::Reservation,
    },
};

/// The other attempt would only say the same. Not so `ShuttingDown`: what runs may still be drained.
const FINAL: Kinds = Kinds::of(&[
    ErrorKind::InvalidInput,
    ErrorKind::LmRejected,
    ErrorKind::Cancelled,
    ErrorKind::Deadline,
]);

type HedgeResult<S, R> = Result<<S as Service<R>>::Response, <S as Service<R>>::Error>;

/// How far an attempt has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HedgeAttemptState {
    /// There is none (yet, or any more).
    None,
    /// It waits for its service.
    Waiting,
    /// Its service has taken it.
    Sent,
}

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
        first: ReadyCall<S, R>,
        #[pin]
        second: ReadyCall<S, R>,
        #[pin]
        timer: Option<Sleep>,
        first_is: HedgeAttemptState,
        second_is: HedgeAttemptState,
        // Until the second attempt is due.
        planned: Option<SecondAttempt<S, R>>,
        reservation: Option<Reservation>,
        terms: HedgeTerms,
        stopwatch: Stopwatch,
        classify: C,
        // Of both attempts.
        record: ReportOnDrop,
    }
}

impl<S: Service<R>, C, R> HedgeFuture<S, C, R> {
    pub(super) fn new(
        first: ReadyCall<S, R>,
        planned: Option<SecondAttempt<S, R>>,
        terms: HedgeTerms,
        stopwatch: Stopwatch,
        classify: C,
        record: Arc<CallRecord>,
    ) -> Self {
        Self {
            first,
            second: ReadyCall::Gone,
            timer: None,
            first_is: HedgeAttemptState::Waiting,
            second_is: HedgeAttemptState::None,
            planned,
            reservation: None,
            terms,
            stopwatch,
            classify,
            record: ReportOnDrop(Some(record)),
        }
    }

    /// Has the second attempt wait for its service, if it is due and may be sent.
    fn poll_due(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let mut this = self.project();
        let (Some(planned), Some(started)) = (&*this.planned, this.stopwatch.started()) else {
            return;
        };
        if this.timer.is_none() {
            let due = Deadline::at(started).later_by(planned.delay);
            this.timer.set(Some(sleep_until(due.instant())));
        }
        if let Some(timer) = this.timer.as_mut().as_pin_mut() {
            let due = timer.deadline();
            // A first attempt that uses up tokio's cooperative budget would keep it pending.
            if timer.poll(cx).is_pending() && Instant::now() < due {
                return;
            }
        }
        this.timer.set(None);
        if let Some(planned) = this.planned.take()
            && this.terms.hold()
            && let Some(reservation) = this.terms.reserve()
        {
            *this.reservation = Some(reservation);
            *this.second_is = HedgeAttemptState::Waiting;
            this.second.set(ReadyCall::new(
                planned.service,
                planned.request,
                Waits::none(),
            ));
        }
    }

    fn drop_first(self: Pin<&mut Self>) {
        let this = self.project();
        *this.first_is = HedgeAttemptState::None;
        this.stopwatch.stopped();
        this.first.discard();
    }

    fn drop_second(self: Pin<&mut Self>) {
        let this = self.project();
        *this.second_is = HedgeAttemptState::None;
        *this.planned = None;
        *this.reservation = None;
        this.second.discard();
    }

    /// Drops what is left of both attempts.
    fn drop_both(mut self: Pin<&mut Self>) {
        self.as_mut().drop_first();
        self.drop_second();
    }
}

impl<S, C, R> HedgeFuture<S, C, R>
where
    S: Service<R, Error: 'static>,
    C: Classifier<S::Error>,
{
    /// Fails with `error`, which then has the costs of both attempts.
    fn fail(mut self: Pin<&mut Self>, kind: ErrorKind, mut error: S::Error) -> HedgeResult<S, R> {
        let cause = self.terms.cause_of(kind);
        self.as_mut().add_costs(&error);
        let record = self.record.0.clone();
        let both = drop_scope::end(cause, record.as_ref(), || self.drop_both());
        if let Some(spent) = both.spent {
            set_costs_in(&mut error, spent);
        }
        Err(error)
    }

    /// Records what an attempt spent that failed and wrote into no record.
    fn add_costs(self: Pin<&mut Self>, error: &S::Error) {
        if let Some(spent) = costs_in(error) {
            CallRecord::follow(&mut self.project().record.0, spent);
        }
    }

    fn poll_first(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<HedgeResult<S, R>> {
        let mut this = self.as_mut().project();
        // The time it waits for its service is not the attempt's.
        let now = (*this.first_is == HedgeAttemptState::Waiting).then(Instant::now);
        let polled = this.first.as_mut().poll(cx);
        if let Some(now) = now
            && !this.terms.first_waits()
            && this.first.stage() == Stage::Running
        {
            this.stopwatch.start(now);
            *this.first_is = HedgeAttemptState::Sent;
        }
        let error = match ready!(polled) {
            Ok(response) => {
                this.stopwatch.answered();
                drop_scope::with(Cause::Superseded, || self.drop_both());
                return Poll::Ready(Ok(response));
            }
            Err(error) => error,
        };
        let kind = this.classify.kind(&error);
        this.stopwatch.failed(kind);
        if *this.second_is == HedgeAttemptState::Sent && !FINAL.contains(kind) {
            this.terms.log_failed("first", kind);
            self.as_mut().add_costs(&error);
            self.drop_first();
            return Poll::Pending;
        }
        Poll::Ready(self.fail(kind, error))
    }

    fn poll_second(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<HedgeResult<S, R>> {
        let mut this = self.as_mut().project();
        if *this.second_is == HedgeAttemptState::Waiting && !this.terms.hold() {
            // It must not start late.
            self.drop_second();
            return Poll::Pending;
        }
        let polled = this.second.as_mut().poll(cx);
        if *this.second_is == HedgeAttemptState::Waiting && this.second.stage() == Stage::Running {
            *this.second_is = HedgeAttemptState::Sent;
            if let Some(reservation) = this.reservation.take() {
                reservation.spend();
            }
            this.terms.log_sent();
        }
        let error = match ready!(polled) {
            Ok(response) => {
                drop_scope::with(Cause::Superseded, || self.drop_both());
                return Poll::Ready(Ok(response));
            }
            Err(error) => error,
        };
        let kind = this.classify.kind(&error);
        let decides = *this.second_is == HedgeAttemptState::Sent && FINAL.contains(kind);
        if *this.first_is != HedgeAttemptState::None && !decides {
            this.terms.log_failed("second", kind);
            self.as_mut().add_costs(&error);
            self.drop_second();
            return Poll::Pending;
        }
        Poll::Ready(self.fail(kind, error))
    }
}

impl<S, C, R> Future for HedgeFuture<S, C, R>
where
    S: Service<R, Error: 'static>,
    C: Classifier<S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.first_is != HedgeAttemptState::None {
            let polled = self.as_mut().poll_first(cx);
            if polled.is_ready() {
                return polled;
            }
        }
        self.as_mut().poll_due(cx);
        if self.second_is != HedgeAttemptState::None {
            let polled = self.as_mut().poll_second(cx);
            if polled.is_ready() {
                return polled;
            }
        }
        Poll::Pending
    }
}

impl<S: Service<R>, C, R> fmt::Debug for HedgeFuture<S, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeFuture")
            .field("first", &self.first_is)
            .field("second", &self.second_is)
            .finish_non_exhaustive()
    }
}
