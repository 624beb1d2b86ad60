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
//! 5. Of two guards that are to end the work at one instant the outer one does: see [`enclosing`].
//! 6. Dropping the guard drops the work and adds no cause, so that of an outer layer stays visible.

mod clock;
pub(crate) mod enclosing;
mod poll;
mod watch;
mod work;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Instant;

use self::enclosing::Nodes;
pub(crate) use self::{
    clock::{Clock, Limit},
    watch::Watch,
    work::{Admit, Slot, Work, observe, tell_waits},
};
use crate::{
    call::{CallContext, CallId, Cancel, Carrier, Cause, Spent, record::CallRecord},
    error::Stage,
};

/// What says that the work is to end.
pub(crate) trait Alarm {
    /// What the call is answered with.
    type Error: std::fmt::Debug;

    /// Whether it rings because the call was cancelled, and not because a limit passed.
    const CANCELS: bool;

    /// Whether it may ever ring.
    fn may_ring(&self) -> bool;

    /// What it waits for, if a cancellation rings it.
    fn nodes(&self) -> Option<Nodes> {
        None
    }

    /// The instant at which it is going to ring, if that is known.
    fn at(&self) -> Option<Instant>;

    /// Whether it rings for a limit that an enclosing layer may have set.
    fn is_merged(&self) -> bool;

    /// Ready once the work is to end, and from then on at each poll.
    fn poll_ring(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Cause>;

    /// Arms the timer of the grace; the alarm has rung and is not asked again.
    fn set_timer(self: Pin<&mut Self>, at: Instant);

    /// Ready when the grace has ended.
    fn poll_timer(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;

    /// The error for work that ended in `stage`, because of `cause`, and had `spent` this.
    fn error(&self, cause: Cause, stage: Stage, spent: Option<Arc<Spent>>) -> Self::Error;
}

/// How long the work may clean up, and the node in its context that tells it to.
#[derive(Debug)]
pub(crate) struct Grace {
    length: Duration,
    node: Cancel,
    /// When the alarm rang.
    began: Option<Instant>,
}

impl Grace {
    /// A grace of `length`, whose signal is a node that it puts below the context's own. `None`, and
    /// nothing is allocated, for a grace of zero: the work is dropped at once.
    #[inline]
    pub(crate) fn below(length: Duration, context: &mut CallContext) -> Option<Self> {
        if length.is_zero() {
            return None;
        }
        context.cancel = context.cancel.child();
        // The work may answer within the grace: its answer is dropped, and reports nothing.
        context.open_record();
        Self::on(length, &context.cancel)
    }

    /// A grace of `length`, whose signal is `node` itself. `None` for a grace of zero, or if
    /// nothing can cancel the node.
    #[inline]
    pub(crate) fn on(length: Duration, node: &Cancel) -> Option<Self> {
        (!length.is_zero() && node.is_some()).then(|| Self {
            length,
            node: node.clone(),
            began: None,
        })
    }
}

/// What a log line says about a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tag {
    pub(super) call: Option<CallId>,
    pub(super) attempt: u32,
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
enum Phase {
    /// The work was never started.
    Refused(Cause),
    /// The work runs.
    Watching,
    /// The alarm rang; the work cleans up.
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
        phase: Phase,
        tag: Tag,
        // That of the call, if it was open when the guard got the call.
        record: Option<Arc<CallRecord>>,
    }
}

/// Work under a limit of time.
pub(crate) type Limited<W> = Guard<W, Clock>;

impl<W, A> Guard<W, A> {
    /// Runs `work` until it is done or `alarm` rings.
    pub(crate) const fn new(work: W, alarm: A, grace: Option<Grace>, tag: Tag) -> Self {
        Self {
            work,
            alarm,
            grace,
            phase: Phase::Watching,
            tag,
            record: None,
        }
    }

    /// Ends the work with what `record` has of its costs.
    pub(crate) fn with_record(mut self, record: Option<Arc<CallRecord>>) -> Self {
        self.record = record;
        self
    }

    /// Answers with the error of the alarm for a cause, if there is one: the work holds nothing.
    pub(crate) fn refusing(mut self, cause: Option<Cause>) -> Self {
        if let Some(cause) = cause {
            self.phase = Phase::Refused(cause);
        }
        self
    }
}
