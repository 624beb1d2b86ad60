//! The alarm of the layers that limit time.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Alarm;
use crate::{
    call::{Cause, Deadline, Spent},
    error::{Elapsed, Scope, Stage},
};

/// One limit of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// When it passes.
    pub(crate) at: Deadline,
    /// The name that its error gives it.
    pub(crate) scope: Scope,
    /// When the layer that enforces it got the call.
    pub(crate) since: Instant,
}

impl Limit {
    /// Whether it had passed when the layer got the call.
    pub(crate) fn was_past(&self) -> bool {
        self.at.instant() <= self.since
    }

    pub(crate) const fn cause(&self) -> Cause {
        match self.scope {
            Scope::Deadline => Cause::Deadline,
            Scope::Attempt | Scope::Reserve | Scope::Share => Cause::Elapsed,
        }
    }

    pub(crate) fn elapsed(&self, stage: Stage) -> Elapsed {
        Elapsed::new(self.scope, stage, self.at.remaining_at(self.since))
    }
}

pin_project! {
    /// Rings when a limit passes; never without one.
    ///
    /// Its timer is armed at the first poll, so a call that is answered at once costs none.
    pub(crate) struct Clock {
        limit: Option<Limit>,
        merged: bool,
        #[pin]
        timer: Option<Sleep>,
    }
}

impl Clock {
    pub(crate) const fn new(limit: Option<Limit>) -> Self {
        Self {
            limit,
            merged: false,
            timer: None,
        }
    }

    /// Says whether the limit is the one that the request came with, and not an earlier one.
    pub(crate) fn merged(mut self, merged: bool) -> Self {
        self.merged = merged;
        self
    }
}

impl Alarm for Clock {
    type Error = Elapsed;

    const CANCELS: bool = false;

    fn may_ring(&self) -> bool {
        self.limit.is_some()
    }

    fn at(&self) -> Option<Instant> {
        self.limit.map(|limit| limit.at.instant())
    }

    fn is_merged(&self) -> bool {
        self.merged
    }

    fn poll_ring(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Cause> {
        let Some(limit) = self.limit else {
            return Poll::Pending;
        };
        if self.timer.is_none() {
            self.as_mut().set_timer(limit.at.instant());
        }
        ready!(self.poll_timer(cx));
        Poll::Ready(limit.cause())
    }

    fn set_timer(self: Pin<&mut Self>, at: Instant) {
        self.project().timer.set(Some(sleep_until(at)));
    }

    fn poll_timer(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.project().timer.as_pin_mut();
        timer.map_or(Poll::Pending, |timer| poll_sleep(timer, cx))
    }

    fn error(&self, _: Cause, stage: Stage, spent: Option<Arc<Spent>>) -> Elapsed {
        let elapsed = match &self.limit {
            Some(limit) => limit.elapsed(stage),
            // A clock without a limit never rings.
            None => Elapsed::new(Scope::Deadline, stage, std::time::Duration::ZERO),
        };
        elapsed.with_spent(spent)
    }
}

/// Polls a timer that is armed already.
pub(super) fn poll_sleep(mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    if timer.as_mut().poll(cx).is_ready() {
        return Poll::Ready(());
    }
    // A timer takes part in tokio's cooperative budget: work that uses it up at each poll would
    // keep the timer pending for good.
    if Instant::now() >= timer.deadline() {
        return Poll::Ready(());
    }
    Poll::Pending
}
