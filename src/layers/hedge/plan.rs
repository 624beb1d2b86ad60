//! When a second attempt is due, and whether there may be one.

use std::time::Duration;

use crate::{
    call::{CallContext, CallId, Cancel, Carrier, Cause, Deadline, Waits},
    error::ErrorKind,
    layers::{
        guard::Tag,
        latency::{Latency, Percentile},
        retry::{Reservation, RetryBudget},
    },
};

/// When the second attempt is due.
#[derive(Clone, Copy, Debug)]
pub(super) enum HedgeDelay {
    After(Duration),
    At(Percentile),
}

impl HedgeDelay {
    /// How long the first attempt has to itself; `None` if that is not known yet.
    pub(super) fn delay(self, latency: Option<&Latency>) -> Option<Duration> {
        match self {
            Self::After(delay) => Some(delay),
            Self::At(percentile) => latency?.percentile(percentile),
        }
    }

    /// How long a second attempt may well take, as far as `delay` tells.
    pub(super) fn needs(self, delay: Option<Duration>) -> Duration {
        match self {
            Self::After(_) => Duration::ZERO,
            Self::At(_) => delay.unwrap_or_default(),
        }
    }
}

/// What a second attempt is made of, until it is due.
pub(super) struct SecondAttempt<S, R> {
    pub(super) delay: Duration,
    pub(super) service: S,
    pub(super) request: R,
}

impl<S, R: Carrier + Clone> SecondAttempt<S, R> {
    pub(super) fn new(delay: Duration, service: S, first: &R) -> Self {
        let mut request = first.clone();
        let context = request.context_mut();
        context.attempt = context.attempt.saturating_add(1);
        // It is sent beside a first attempt that runs, so the call does not wait.
        context.waits = Waits::none();
        Self {
            delay,
            service,
            request,
        }
    }
}

/// What a second attempt is subject to.
pub(super) struct HedgeTerms {
    cancel: Cancel,
    deadline: Option<Deadline>,
    needed: Duration,
    budget: RetryBudget,
    waits: Waits,
    /// Of the first attempt.
    tag: Tag,
}

impl HedgeTerms {
    pub(super) fn new(context: &CallContext, needed: Duration, budget: &RetryBudget) -> Self {
        Self {
            cancel: context.cancel.clone(),
            deadline: context.deadline,
            needed,
            budget: budget.clone(),
            waits: context.waits.clone(),
            tag: Tag::of(context),
        }
    }

    /// Whether what is left `delay` from now can hold an attempt.
    pub(super) fn leave_time_after(&self, delay: Duration) -> bool {
        self.deadline.is_none_or(|deadline| {
            let left = deadline.remaining().saturating_sub(delay);
            !left.is_zero() && left >= self.needed
        })
    }

    /// Whether the call is still one that gets a second attempt.
    pub(super) fn hold(&self) -> bool {
        !self.cancel.is_cancelled() && self.leave_time_after(Duration::ZERO)
    }

    /// Whether the first attempt waits further in, as far as a layer around the call looks.
    pub(super) fn first_waits(&self) -> bool {
        self.waits.any()
    }

    /// Sets aside what a second attempt costs.
    pub(super) fn reserve(&self) -> Option<Reservation> {
        let reservation = self.budget.reserve();
        if reservation.is_none() {
            tracing::debug!(
                target: "tower_dspy",
                call_id = self.call_id(),
                "no second attempt: the hedge budget is used up",
            );
        }
        reservation
    }

    /// Why an attempt is dropped when the other's failure, of `kind`, is the call's.
    pub(super) fn cause_of(&self, kind: ErrorKind) -> Cause {
        match kind {
            ErrorKind::Deadline => Cause::Deadline,
            ErrorKind::Cancelled => self.cancel.cause().unwrap_or(Cause::Superseded),
            _ => Cause::Superseded,
        }
    }

    pub(super) fn log_sent(&self) {
        tracing::debug!(
            target: "tower_dspy",
            call_id = self.call_id(),
            attempt = self.tag.attempt.saturating_add(1),
            "the attempt is slow; a second one runs beside it",
        );
    }

    pub(super) fn log_failed(&self, which: &'static str, kind: ErrorKind) {
        tracing::debug!(
            target: "tower_dspy",
            call_id = self.call_id(),
            which,
            ?kind,
            "one of two attempts failed; the other goes on",
        );
    }

    fn call_id(&self) -> Option<u64> {
        self.tag.call.map(CallId::get)
    }
}
