//! What ends an operation early: its node or its limit, whichever is first.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::TimeoutError;
use crate::{
    call::{Cancel, Cause, Spent},
    error::{Cancelled, Elapsed, Stage},
    layers::guard::{Alarm, Clock, Limit, Watch, enclosing::Nodes},
};

pin_project! {
    /// Rings when a node is cancelled or a limit passes; for the former, if it is both.
    ///
    /// One alarm and not two guards around each other, so that the one that rang first stays the
    /// reason when the other follows in its grace.
    pub(super) struct Either {
        #[pin]
        watch: Watch,
        #[pin]
        clock: Clock,
        rang: Option<Rang>,
    }
}

#[derive(Clone, Copy)]
pub(super) enum Rang {
    Watch,
    Clock,
}

/// What an operation that was ended is answered with.
#[derive(Debug)]
pub(super) enum Ended {
    Elapsed(Elapsed),
    Cancelled(Cancelled),
}

impl Either {
    /// Rings for `node`, for `also`, which then cancels `node`, and for `limit`. `rang` says which
    /// it was, if an operation is refused because of it.
    pub(super) const fn new(
        node: Cancel,
        also: Option<Cancel>,
        limit: Option<Limit>,
        rang: Option<Rang>,
    ) -> Self {
        Self {
            watch: Watch::new(node, also),
            clock: Clock::new(limit),
            rang,
        }
    }
}

impl Alarm for Either {
    type Error = Ended;

    // It rings for a limit as well, and only a cancellation could be left to a layer around it.
    const CANCELS: bool = false;

    fn may_ring(&self) -> bool {
        self.watch.may_ring() || self.clock.may_ring()
    }

    fn nodes(&self) -> Option<Nodes> {
        self.watch.nodes()
    }

    fn at(&self) -> Option<Instant> {
        match self.rang {
            // It rang before that.
            Some(Rang::Watch) => None,
            _ => self.clock.at(),
        }
    }

    fn is_merged(&self) -> bool {
        false
    }

    fn poll_ring(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Cause> {
        let this = self.project();
        if let ringing @ Poll::Ready(_) = this.watch.poll_ring(cx) {
            *this.rang = Some(Rang::Watch);
            return ringing;
        }
        let ringing = this.clock.poll_ring(cx);
        if ringing.is_ready() {
            *this.rang = Some(Rang::Clock);
        }
        ringing
    }

    fn set_timer(self: Pin<&mut Self>, at: Instant) {
        self.project().clock.set_timer(at);
    }

    fn poll_timer(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().clock.poll_timer(cx)
    }

    fn error(&self, cause: Cause, stage: Stage, spent: Option<Arc<Spent>>) -> Ended {
        match self.rang {
            Some(Rang::Clock) => Ended::Elapsed(self.clock.error(cause, stage, spent)),
            _ => Ended::Cancelled(self.watch.error(cause, stage, spent)),
        }
    }
}

impl<E> From<Ended> for TimeoutError<E> {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Elapsed(elapsed) => elapsed.into(),
            Ended::Cancelled(cancelled) => cancelled.into(),
        }
    }
}
