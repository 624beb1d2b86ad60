//! How a layer ends the work inside it: shared by all that limit or cancel.
//!
//! Invariants:
//! 1. The work is polled before the alarm: an answer that is ready wins the tie.
//! 2. There is one outcome. Once the alarm rang it is the alarm's error, even if the work still
//!    answers within the grace.
//! 3. When the outcome is returned early, the work is gone already, dropped in a
//!    [`drop_scope`] that names the cause.
//! 4. Work that waits for readiness gets no grace: nothing runs that could clean up, and what is
//!    late must not start.
//! 5. Of two guards that are to end the work at one instant the outer one does. The inner one finds
//!    it in the context ([`Enclosing`]), and ends the work itself only if the outer one has not
//!    done so by the end of its grace: as when the work goes on in a task of its own.
//! 6. Dropping the guard drops the work and adds no cause, so that of an outer layer stays visible.

mod cancel_alarm;
mod grace;
mod limit_alarm;
mod ready_call;

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

pub(crate) use self::{
    cancel_alarm::CancelAlarm,
    grace::Grace,
    limit_alarm::{LimitAlarm, Limited},
    ready_call::ReadyCall,
};
use crate::{
    call::{CallContext, CallId, Carrier, Cause, Enclosing, Spent, drop_scope, record::CallRecord},
    error::Stage,
};

/// A future that knows how far it has come and can be dropped where it lies.
pub(crate) trait Work: Future {
    /// How far the call has come.
    fn stage(&self) -> Stage;

    /// Drops everything it holds; from then on it is pending for ever.
    fn discard(self: Pin<&mut Self>);
}

pin_project! {
    /// The future of a service that has taken the call.
    #[project = DroppableProj]
    pub(crate) enum Droppable<F> {
        Live { #[pin] future: F },
        Gone,
    }
}

impl<F> Droppable<F> {
    pub(crate) const fn new(future: F) -> Self {
        Self::Live { future }
    }
}

impl<F: Future> Future for Droppable<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            DroppableProj::Live { future } => future.poll(cx),
            DroppableProj::Gone => Poll::Pending,
        }
    }
}

impl<F: Future> Work for Droppable<F> {
    fn stage(&self) -> Stage {
        Stage::Running
    }

    fn discard(mut self: Pin<&mut Self>) {
        self.set(Self::Gone);
    }
}

/// What says that the work is to end.
pub(crate) trait Alarm {
    /// What the call is answered with.
    type Error: std::fmt::Debug;

    /// Whether its limit is left to an enclosing layer, which enforces one that is no later.
    fn left_to_outer(&self) -> bool {
        false
    }

    /// Ready once the work is to end, and from then on at each poll.
    fn poll_ring(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Cause>;

    /// The error for work that ended in `stage`, because of `cause`, and had `spent` this.
    fn error(&self, cause: Cause, stage: Stage, spent: Option<Arc<Spent>>) -> Self::Error;
}

/// What a log line says about a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tag {
    pub(crate) call: Option<CallId>,
    pub(crate) attempt: u32,
}

impl Tag {
    pub(crate) fn of(context: &CallContext) -> Self {
        Self {
            call: context.call_id,
            attempt: context.attempt,
        }
    }

    pub(crate) fn of_request(request: &impl Carrier) -> Self {
        const NONE: Tag = Tag {
            call: None,
            attempt: 0,
        };
        request.context().map_or(NONE, Self::of)
    }
}

#[derive(Clone, Copy, Debug)]
enum GuardPhase {
    /// The work was never started.
    Refused(Cause),
    /// The work runs.
    Watching,
    /// The alarm rang; an enclosing layer ends the work, or this one when the timer has fired.
    LeftToOuter(Cause),
    /// The alarm rang; the work cleans up until the timer fires.
    Ending(Cause),
    /// The outcome was returned.
    Done,
}

pin_project! {
    /// Polls work until it is done or an alarm rings, and then ends it.
    pub(crate) struct Guard<W, A> {
        #[pin]
        work: W,
        #[pin]
        alarm: A,
        grace: Option<Grace>,
        enclosing: Enclosing,
        phase: GuardPhase,
        // The end of the phase.
        #[pin]
        timer: Option<Sleep>,
        gave_way: bool,
        tag: Tag,
        // That of the call, if it was open when the guard got the call.
        record: Option<Arc<CallRecord>>,
    }
}

impl<W, A> Guard<W, A> {
    /// Runs `work` until it is done or `alarm` rings, within what `enclosing` says of the layers around.
    pub(crate) const fn new(
        work: W,
        alarm: A,
        grace: Option<Grace>,
        enclosing: Enclosing,
        tag: Tag,
    ) -> Self {
        Self {
            work,
            alarm,
            grace,
            enclosing,
            phase: GuardPhase::Watching,
            timer: None,
            gave_way: false,
            tag,
            record: None,
        }
    }

    /// Ends the work with what `record` has of its costs.
    pub(crate) fn with_record(mut self, record: Option<Arc<CallRecord>>) -> Self {
        self.record = record;
        self
    }

    /// Answers with the error of the alarm for `cause`: the work holds nothing.
    pub(crate) fn refusing(mut self, cause: Cause) -> Self {
        self.phase = GuardPhase::Refused(cause);
        self
    }
}

impl<W, A, T, E> Future for Guard<W, A>
where
    W: Work<Output = Result<T, E>>,
    A: Alarm,
    E: From<A::Error>,
{
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.as_mut().project();
        match *this.phase {
            GuardPhase::Watching => {
                if let Poll::Ready(answer) = this.work.poll(cx) {
                    *this.phase = GuardPhase::Done;
                    return Poll::Ready(answer);
                }
                let cause = ready!(this.alarm.poll_ring(cx));
                self.rang(cause, cx)
            }
            GuardPhase::LeftToOuter(cause) => {
                if let Poll::Ready(answer) = this.work.poll(cx) {
                    *this.phase = GuardPhase::Done;
                    return Poll::Ready(answer);
                }
                self.poll_left(cause, cx)
            }
            GuardPhase::Ending(cause) => self.poll_ending(cause, cx),
            GuardPhase::Refused(cause) => {
                let passed = this.enclosing.drops_at(Instant::now()).is_some();
                if this.alarm.left_to_outer() && passed {
                    ready!(give_way(this.gave_way, cx));
                }
                self.end(cause, Stage::BeforeStart)
            }
            GuardPhase::Done => Poll::Pending,
        }
    }
}

impl<W, A, T, E> Guard<W, A>
where
    W: Work<Output = Result<T, E>>,
    A: Alarm,
    E: From<A::Error>,
{
    /// The alarm has rung: decides who ends the work, and when.
    fn rang(mut self: Pin<&mut Self>, cause: Cause, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let mut this = self.as_mut().project();
        let now = Instant::now();
        let waits = this.grace.as_ref().is_some_and(|grace| grace.waits.any());
        let stage = if waits {
            Stage::Waiting
        } else {
            this.work.stage()
        };
        let dropped_at = this.enclosing.drops_at(now);
        let left_until = dropped_at.filter(|at| stage == Stage::Running && *at > now);
        if left_until.is_some() || this.alarm.left_to_outer() {
            *this.phase = GuardPhase::LeftToOuter(cause);
            this.timer.set(left_until.map(sleep_until));
            return self.poll_left(cause, cx);
        }
        match this.grace {
            Some(grace) if stage == Stage::Running => {
                *this.phase = GuardPhase::Ending(cause);
                this.timer.set(Some(sleep_until(grace.begin(cause))));
                // The work is signalled before anybody waits for it.
                self.poll_ending(cause, cx)
            }
            _ => self.end(cause, stage),
        }
    }

    fn poll_left(
        mut self: Pin<&mut Self>,
        cause: Cause,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T, E>> {
        let this = self.as_mut().project();
        ready!(poll_timer(this.timer, cx));
        ready!(give_way(this.gave_way, cx));
        let stage = this.work.stage();
        self.end(cause, stage)
    }

    fn poll_ending(
        mut self: Pin<&mut Self>,
        cause: Cause,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T, E>> {
        let this = self.as_mut().project();
        if this.work.poll(cx).is_pending() {
            ready!(poll_timer(this.timer, cx));
        }
        self.end(cause, Stage::Running)
    }

    /// Drops the work, because of `cause`, and answers in its place.
    fn end(self: Pin<&mut Self>, cause: Cause, stage: Stage) -> Poll<Result<T, E>> {
        let this = self.project();
        let phase = mem::replace(this.phase, GuardPhase::Done);
        if let Some(grace) = this.grace {
            // What waits in another task, and is not dropped with the work, ends by it.
            grace.node.cancel(cause);
        }
        // The drop of the work reads the cause and reports its costs in there, on this thread.
        let report = drop_scope::end(cause, this.record.as_ref(), || this.work.discard());
        let stage = match phase {
            GuardPhase::Watching | GuardPhase::LeftToOuter(_) if report.waited => Stage::Waiting,
            _ => stage,
        };
        let error = this.alarm.error(cause, stage, report.spent);
        tracing::debug!(
            target: "tower_dspy",
            call_id = this.tag.call.map(CallId::get),
            attempt = this.tag.attempt,
            %cause,
            ?error,
            "a layer ended the call",
        );
        Poll::Ready(Err(error.into()))
    }
}

/// Pending once, for the enclosing layers, which are polled after their work: an answer now would
/// hide the one that ends the call. The task is woken, in case that none does.
fn give_way(gave_way: &mut bool, cx: &Context<'_>) -> Poll<()> {
    if mem::replace(gave_way, true) {
        return Poll::Ready(());
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Ready once the timer has fired; at once if there is none.
fn poll_timer(timer: Pin<&mut Option<Sleep>>, cx: &mut Context<'_>) -> Poll<()> {
    match timer.as_pin_mut() {
        Some(timer) => poll_sleep(timer, cx),
        None => Poll::Ready(()),
    }
}

/// Ready once the timer has fired, or is due.
///
/// A timer takes part in tokio's cooperative budget: work that uses it up at each poll would keep
/// the timer pending for good.
fn poll_sleep(mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    if timer.as_mut().poll(cx).is_ready() || timer.deadline() <= Instant::now() {
        Poll::Ready(())
    } else {
        Poll::Pending
    }
}
