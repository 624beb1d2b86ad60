//! The alarm of the layers that limit time.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};

use super::{Alarm, Grace, poll_sleep};
use crate::{
    call::{CallContext, Cause, Limit, Scope, Spent},
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
    pub(crate) const fn new(limit: Option<Limit>) -> Self {
        Self {
            limit,
            left_to_outer: false,
            timer: None,
        }
    }

    /// Puts `own` in force in the context, or is for the `outer` limit that it is left to.
    pub(crate) fn enforce(own: Limit, outer: Option<Limit>, context: &mut CallContext) -> Self {
        if outer.is_none() {
            context.enforce(own);
        }
        Self {
            left_to_outer: outer.is_some(),
            ..Self::new(outer.or(Some(own)))
        }
    }

    /// The grace of the limit, if there is one and it is not left to an enclosing layer.
    pub(crate) fn grace(&self, context: &mut CallContext) -> Option<Grace> {
        let own = self.limit.filter(|_| !self.left_to_outer)?;
        Grace::of_limit(own.grace, context)
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
