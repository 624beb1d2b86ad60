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
mod work;

use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Instant;

pub(crate) use self::{
    cancel_alarm::CancelAlarm,
    grace::Grace,
    work::{Droppable, ReadyCall, Work},
};
use crate::{
    call::{
        CallContext, CallId, CallTag, Cancel, Cause, Deadline, Enclosing, Limit, Scope, Spent,
        drop_scope,
        record::CallRecord,
        termination::{Terminated, Termination},
    },
    error::{Elapsed, Stage},
};

/// What says that the work is to end.
pub(crate) trait Alarm {
    /// What the call is answered with.
    type Error: fmt::Debug;

    /// What ends the work; `None` if nothing does.
    fn termination(&self) -> Option<Termination>;

    /// Why the work ends.
    fn cause(&mut self, ended: Terminated) -> Cause;

    /// The error for work that ended in `stage`, because of `cause`, and had `spent` this.
    fn error(
        &self,
        cause: Cause,
        stage: Stage,
        spent: Option<Arc<Spent>>,
        call: Option<CallId>,
    ) -> Self::Error;
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

/// Polls the work of one call until it is done or an alarm rings, and then ends it.
pub(crate) struct Guard<A> {
    alarm: A,
    grace: Option<Box<Grace>>,
    enclosing: Enclosing,
    phase: GuardPhase,
    /// The alarm, or the end of the phase. Made when the work is pending for the first time.
    watch: Option<Pin<Box<Termination>>>,
    /// Whether the alarm is an enclosing layer's, which ends the work.
    left_to_outer: bool,
    gave_way: bool,
    tag: CallTag,
    /// That of the call, if it was open when the guard got the call.
    record: Option<Arc<CallRecord>>,
}

impl<A> Guard<A> {
    /// Watches for `alarm`, within what `enclosing` says of the layers around.
    pub(crate) const fn new(alarm: A, enclosing: Enclosing, tag: CallTag) -> Self {
        Self {
            alarm,
            grace: None,
            enclosing,
            phase: GuardPhase::Watching,
            watch: None,
            left_to_outer: false,
            gave_way: false,
            tag,
            record: None,
        }
    }

    /// Lets the work clean up once the alarm has rung.
    pub(crate) fn with_grace(mut self, grace: Option<Box<Grace>>) -> Self {
        self.grace = grace;
        self
    }

    /// Answers with the error of the alarm for `cause`: the work holds nothing.
    pub(crate) const fn refusing(mut self, cause: Cause) -> Self {
        self.phase = GuardPhase::Refused(cause);
        self
    }

    /// Whether the work is not to be started.
    pub(crate) const fn refuses(&self) -> bool {
        matches!(self.phase, GuardPhase::Refused(_))
    }

    /// Begins the `phase`, which lasts until `end`.
    fn begin(&mut self, phase: GuardPhase, end: Option<Instant>) {
        self.phase = phase;
        let timer = |end| Box::pin(Termination::new(Cancel::none(), Some(Deadline::at(end))));
        self.watch = end.map(timer);
    }

    /// Ready once the phase has ended; at once if it has no end of its own.
    fn poll_phase(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.watch {
            Some(timer) => timer.as_mut().poll(cx).map(drop),
            None => Poll::Ready(()),
        }
    }

    /// Pending once. Enclosing layers are polled after their work: an answer now would hide the error
    /// of the layer that ends the call. The task is woken, in case no layer ends it.
    fn give_way(&mut self, cx: &Context<'_>) -> Poll<()> {
        if mem::replace(&mut self.gave_way, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<A: Alarm> Guard<A> {
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<Cause> {
        if self.watch.is_none() {
            self.watch = self.alarm.termination().map(Box::pin);
        }
        match &mut self.watch {
            Some(alarm) => alarm.as_mut().poll(cx).map(|ended| self.alarm.cause(ended)),
            None => Poll::Pending,
        }
    }

    /// Ready with the answer of `work`, or with the error of the alarm in its place.
    pub(crate) fn poll<W, T, E>(
        &mut self,
        mut work: Pin<&mut W>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T, E>>
    where
        W: Work<Output = Result<T, E>>,
        E: From<A::Error>,
    {
        if let GuardPhase::Watching | GuardPhase::LeftToOuter(_) = self.phase
            && let Poll::Ready(answer) = work.as_mut().poll(cx)
        {
            self.phase = GuardPhase::Done;
            return Poll::Ready(answer);
        }
        let error = match self.phase {
            GuardPhase::Watching => {
                let cause = ready!(self.poll_alarm(cx));
                self.rang(cause, work, cx)
            }
            GuardPhase::LeftToOuter(cause) => self.poll_left(cause, work, cx),
            GuardPhase::Ending(cause) => self.poll_ending(cause, work, cx),
            GuardPhase::Refused(cause) => {
                let passed = self.enclosing.drops_at(Instant::now()).is_some();
                if self.left_to_outer && passed {
                    ready!(self.give_way(cx));
                }
                Poll::Ready(self.end(cause, Stage::BeforeStart, work))
            }
            GuardPhase::Done => Poll::Pending,
        };
        error.map(|error| Err(error.into()))
    }

    /// The alarm has rung: decides who ends the work, and when.
    fn rang(
        &mut self,
        cause: Cause,
        work: Pin<&mut impl Work>,
        cx: &mut Context<'_>,
    ) -> Poll<A::Error> {
        let waits = self
            .grace
            .as_ref()
            .is_some_and(|grace| grace.progress.waits());
        let stage = if waits { Stage::Waiting } else { work.stage() };
        let now = Instant::now();
        let dropped_at = self.enclosing.drops_at(now);
        let left_until = dropped_at.filter(|at| stage == Stage::Running && *at > now);
        if left_until.is_some() || self.left_to_outer {
            self.begin(GuardPhase::LeftToOuter(cause), left_until);
            return self.poll_left(cause, work, cx);
        }
        match &self.grace {
            Some(grace) if stage == Stage::Running => {
                let end = grace.begin(cause);
                self.begin(GuardPhase::Ending(cause), Some(end));
                // The work is signalled before anybody waits for it.
                self.poll_ending(cause, work, cx)
            }
            _ => Poll::Ready(self.end(cause, stage, work)),
        }
    }

    fn poll_left(
        &mut self,
        cause: Cause,
        work: Pin<&mut impl Work>,
        cx: &mut Context<'_>,
    ) -> Poll<A::Error> {
        ready!(self.poll_phase(cx));
        ready!(self.give_way(cx));
        Poll::Ready(self.end(cause, work.stage(), work))
    }

    fn poll_ending(
        &mut self,
        cause: Cause,
        mut work: Pin<&mut impl Work>,
        cx: &mut Context<'_>,
    ) -> Poll<A::Error> {
        if work.as_mut().poll(cx).is_pending() {
            ready!(self.poll_phase(cx));
        }
        Poll::Ready(self.end(cause, Stage::Running, work))
    }

    /// Drops the work, because of `cause`, and returns the error to answer with.
    fn end(&mut self, cause: Cause, stage: Stage, work: Pin<&mut impl Work>) -> A::Error {
        let phase = mem::replace(&mut self.phase, GuardPhase::Done);
        if let Some(grace) = &self.grace {
            // What waits in another task, and is not dropped with the work, ends by it.
            grace.node.cancel(cause);
        }
        // The drop of the work reads the cause and reports its costs in there, on this thread.
        let report = drop_scope::end(cause, self.record.as_ref(), || work.discard());
        let stage = match phase {
            GuardPhase::Watching | GuardPhase::LeftToOuter(_) if report.waited => Stage::Waiting,
            _ => stage,
        };
        let error = self.alarm.error(cause, stage, report.spent, self.tag.call);
        tracing::debug!(
            target: "tower_dspy",
            call_id = self.tag.call.map(CallId::get),
            attempt = self.tag.attempt,
            %cause,
            ?error,
            "a layer ended the call",
        );
        error
    }
}

pin_project! {
    /// The response future of a layer that limits or cancels: the work of one call, and its guard.
    pub struct GuardedFuture<W, A> {
        #[pin]
        work: W,
        guard: Guard<A>,
    }
}

impl<W: Work, A> GuardedFuture<W, A> {
    /// Starts the work, unless `guard` refuses it.
    pub(crate) fn new(guard: Guard<A>, start: impl FnOnce() -> W) -> Self {
        let work = if guard.refuses() { W::GONE } else { start() };
        Self { work, guard }
    }
}

impl<W, A, T, E> Future for GuardedFuture<W, A>
where
    W: Work<Output = Result<T, E>>,
    A: Alarm,
    E: From<A::Error>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.guard.poll(this.work, cx)
    }
}

impl<W, A> fmt::Debug for GuardedFuture<W, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedFuture").finish_non_exhaustive()
    }
}

/// Rings when a limit passes; never without one.
#[derive(Debug)]
pub struct LimitAlarm(Option<Limit>);

impl Guard<LimitAlarm> {
    /// Puts `limit` in force in the context, with its grace, before the work begins with that
    /// context; unless it is left to `outer`, one of the `enclosing` limits.
    #[inline]
    pub(crate) fn enforce(
        limit: Limit,
        outer: Option<Limit>,
        enclosing: Enclosing,
        context: &mut CallContext,
    ) -> Self {
        let mut guard = Self::limited(limit, outer, enclosing, CallTag::of(context));
        if outer.is_none() {
            context.enforce(limit);
            guard.grace = Grace::of_limit(limit.grace, context);
        }
        // After the grace, which opens a record if there is none.
        guard.record.clone_from(&context.record);
        if limit.scope == Scope::Deadline
            && let Some(record) = &guard.record
        {
            record.limit(limit.at);
        }
        guard
    }

    /// Refuses a call for which `limit` leaves no time. The work holds nothing.
    pub(crate) fn refused(
        limit: Limit,
        outer: Option<Limit>,
        enclosing: Enclosing,
        tag: CallTag,
    ) -> Self {
        Self::limited(limit, outer, enclosing, tag).refusing(limit.cause())
    }

    /// Leaves the work without a limit.
    #[inline]
    pub(crate) fn unlimited() -> Self {
        Self::new(LimitAlarm(None), Enclosing::default(), CallTag::default())
    }

    #[inline]
    fn limited(limit: Limit, outer: Option<Limit>, enclosing: Enclosing, tag: CallTag) -> Self {
        let alarm = LimitAlarm(outer.or(Some(limit)));
        let mut guard = Self::new(alarm, enclosing, tag);
        guard.left_to_outer = outer.is_some();
        guard
    }
}

impl Alarm for LimitAlarm {
    type Error = Elapsed;

    fn termination(&self) -> Option<Termination> {
        let limit = self.0?;
        Some(Termination::new(Cancel::none(), Some(limit.at)))
    }

    fn cause(&mut self, ended: Terminated) -> Cause {
        self.0.map_or(ended.cause(), |limit| limit.cause())
    }

    fn error(
        &self,
        _: Cause,
        stage: Stage,
        spent: Option<Arc<Spent>>,
        call: Option<CallId>,
    ) -> Elapsed {
        let elapsed = match &self.0 {
            Some(limit) => Elapsed::of(limit, stage),
            // An alarm without a limit never rings.
            None => Elapsed::new(Scope::Deadline, stage, Duration::ZERO),
        };
        elapsed.with_spent(spent).with_call_id(call)
    }
}
