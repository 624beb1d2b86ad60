//! How a layer ends the work inside it: shared by all that limit or cancel.
//!
//! Invariants:
//! 1. The work is polled before the alarm: an answer that is ready wins the tie.
//! 2. There is one outcome. Once the alarm rang it is the alarm's error, even if the work still
//!    answers within the grace.
//! 3. When the outcome is returned early, the work is gone already, dropped in a
//!    [`drop_scope`](crate::drop_scope) that names the cause.
//! 4. Work that waits for readiness gets no grace: nothing runs that could clean up, and what is
//!    late must not start.
//! 5. Dropping the guard drops the work and adds no cause, so that of an outer layer stays visible.

mod clock;
pub(crate) mod enclosing;
mod watch;
mod work;

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Instant;

pub(crate) use self::{
    clock::{Clock, Limit},
    watch::Watch,
    work::{Admit, Slot, Work},
};
use crate::{CallContext, Cancel, Carrier, Cause, Deadline, Stage, drop_scope};

/// What says that the work is to end.
pub(crate) trait Alarm {
    /// What the call is answered with.
    type Error: std::fmt::Debug;

    /// The instant at which it is going to ring, if that is known.
    fn at(&self) -> Option<Instant>;

    /// Ready once the work is to end, and from then on at each poll.
    fn poll_ring(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Cause>;

    /// Arms the timer of the grace; the alarm has rung and is not asked again.
    fn set_timer(self: Pin<&mut Self>, at: Instant);

    /// Ready when the grace has ended.
    fn poll_timer(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;

    /// The error for work that ended in `stage`, because of `cause`.
    fn error(&self, cause: Cause, stage: Stage) -> Self::Error;
}

/// How long the work may clean up, and the node in its context that tells it to.
#[derive(Debug)]
pub(crate) struct Grace {
    length: Duration,
    node: Cancel,
}

impl Grace {
    /// A grace of `length`, whose signal is a node that it puts below the context's own. `None`, and
    /// nothing is allocated, for a grace of zero: the work is dropped at once.
    pub(crate) fn below(length: Duration, context: &mut CallContext) -> Option<Self> {
        if length.is_zero() {
            return None;
        }
        context.cancel = context.cancel.child();
        Self::on(length, context.cancel.clone())
    }

    /// A grace of `length`, whose signal is `node` itself. `None` for a grace of zero, or if nothing can cancel it.
    pub(crate) fn on(length: Duration, node: Cancel) -> Option<Self> {
        (!length.is_zero() && node.is_some()).then_some(Self { length, node })
    }
}

/// What a log line says about a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tag {
    call: Option<u64>,
    attempt: u32,
}

impl Tag {
    pub(crate) fn of(context: &CallContext) -> Self {
        Self {
            call: context.call_id.map(crate::CallId::get),
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
enum Phase {
    /// The work was never started.
    Refused(Cause),
    /// The work runs.
    Watching,
    /// The alarm rang, at the instant; the work cleans up.
    Ending(Cause, Instant),
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
        phase: Phase,
        tag: Tag,
    }
}

/// Work under a limit of time.
pub(crate) type Limited<W> = Guard<W, Clock>;

impl<W, A> Guard<W, A> {
    pub(crate) const fn new(work: W, alarm: A, grace: Option<Grace>, tag: Tag) -> Self {
        Self {
            work,
            alarm,
            grace,
            phase: Phase::Watching,
            tag,
        }
    }

    /// Answers with the error of `alarm` for `cause`; `gone` is work that holds nothing.
    pub(crate) const fn refused(gone: W, alarm: A, cause: Cause, tag: Tag) -> Self {
        Self {
            work: gone,
            alarm,
            grace: None,
            phase: Phase::Refused(cause),
            tag,
        }
    }
}

impl<W, A, T, E> Future for Guard<W, A>
where
    W: Work<Output = Result<T, E>>,
    A: Alarm,
    E: From<A::Error>,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let (cause, stage) = match *this.phase {
                Phase::Watching => {
                    let polled = match this.grace {
                        None => this.work.as_mut().poll(cx),
                        Some(_) => enclosing::with(this.alarm.at(), || this.work.as_mut().poll(cx)),
                    };
                    if polled.is_ready() {
                        *this.phase = Phase::Done;
                        return polled;
                    }
                    let cause = ready!(this.alarm.as_mut().poll_ring(cx));
                    let stage = this.work.stage();
                    if stage == Stage::Running {
                        let at = this.alarm.at().unwrap_or_else(Instant::now);
                        if enclosing::ends(at) {
                            return Poll::Pending;
                        }
                        if let Some(grace) = &this.grace {
                            let now = Instant::now();
                            let end = Deadline::at(now).later_by(grace.length);
                            this.alarm.as_mut().set_timer(end.instant());
                            // Last before the work is polled again: the signal may wake this task.
                            *this.phase = Phase::Ending(cause, now);
                            grace.node.cancel(cause);
                            continue;
                        }
                    }
                    (cause, stage)
                }
                Phase::Ending(cause, since) => {
                    let done = enclosing::with(Some(since), || this.work.as_mut().poll(cx));
                    if done.is_pending() {
                        ready!(this.alarm.as_mut().poll_timer(cx));
                    }
                    (cause, Stage::Running)
                }
                Phase::Refused(cause) => (cause, Stage::BeforeStart),
                Phase::Done => return Poll::Pending,
            };
            *this.phase = Phase::Done;
            let error = this.alarm.error(cause, stage);
            tracing::debug!(
                target: "tower_dspy",
                call_id = this.tag.call,
                attempt = this.tag.attempt,
                %cause,
                ?error,
                "a layer ended the call",
            );
            drop_scope::with(cause, || this.work.discard());
            return Poll::Ready(Err(error.into()));
        }
    }
}
