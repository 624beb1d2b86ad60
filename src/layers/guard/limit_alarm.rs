//! The alarm of the layers that limit time.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};

use super::{Alarm, Grace, Guard, Tag, poll_sleep};
use crate::{
    call::{CallContext, Cause, Enclosing, Limit, Scope, Spent},
    error::{Elapsed, Stage},
};

pin_project! {
    /// Rings when a limit passes; never without one.
    ///
    /// Its timer is armed when the work is pending for the first time.
    pub(crate) struct LimitAlarm {
        limit: Option<Limit>,
        left_to_outer: bool,
        #[pin]
        timer: Option<Sleep>,
    }
}

impl LimitAlarm {
    /// Rings for a limit that is left to no other.
    pub(crate) const fn own(limit: Option<Limit>) -> Self {
        Self {
            limit,
            left_to_outer: false,
            timer: None,
        }
    }

    /// Rings for `limit`, or for the `outer` one that it is left to.
    fn new(limit: Limit, outer: Option<Limit>) -> Self {
        Self {
            limit: outer.or(Some(limit)),
            left_to_outer: outer.is_some(),
            timer: None,
        }
    }
}

/// Work under a limit of time.
pub(crate) type Limited<W> = Guard<W, LimitAlarm>;

impl<W> Limited<W> {
    /// Puts `limit` in force in the context, with its grace, before the work begins with that
    /// context; unless it is left to `outer`. Returns how the work is then guarded.
    pub(crate) fn enforce(
        limit: Limit,
        outer: Option<Limit>,
        context: &mut CallContext,
    ) -> impl FnOnce(W) -> Self + use<W> {
        let tag = Tag::of(context);
        // What encloses the limit: without itself.
        let enclosing = context.enclosing();
        let mut grace = None;
        if outer.is_none() {
            context.enforce(limit);
            grace = Grace::of_limit(limit.grace, context);
        }
        // The grace opens one.
        let record = context.record.clone();
        let alarm = LimitAlarm::new(limit, outer);
        move |work| Self::new(work, alarm, grace, enclosing, tag).with_record(record)
    }

    /// Refuses a call for which `limit` leaves no time. The work holds nothing.
    pub(crate) fn refused(
        work: W,
        limit: Limit,
        outer: Option<Limit>,
        context: &CallContext,
    ) -> Self {
        let alarm = LimitAlarm::new(limit, outer);
        Self::new(work, alarm, None, context.enclosing(), Tag::of(context)).refusing(limit.cause())
    }

    /// Leaves the work without a limit.
    pub(crate) fn unlimited(work: W, tag: Tag) -> Self {
        Self::new(work, LimitAlarm::own(None), None, Enclosing::default(), tag)
    }
}

impl Alarm for LimitAlarm {
    type Error = Elapsed;

    fn left_to_outer(&self) -> bool {
        self.left_to_outer
    }

    fn poll_ring(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Cause> {
        let mut this = self.project();
        let Some(limit) = this.limit else {
            return Poll::Pending;
        };
        if this.timer.is_none() {
            this.timer.set(Some(sleep_until(limit.at.instant())));
        }
        if let Some(timer) = this.timer.as_pin_mut() {
            ready!(poll_sleep(timer, cx));
        }
        Poll::Ready(limit.cause())
    }

    fn error(&self, _: Cause, stage: Stage, spent: Option<Arc<Spent>>) -> Elapsed {
        let elapsed = match &self.limit {
            Some(limit) => Elapsed::of(limit, stage),
            // An alarm without a limit never rings.
            None => Elapsed::new(Scope::Deadline, stage, std::time::Duration::ZERO),
        };
        elapsed.with_spent(spent)
    }
}
