//! When a second attempt is due, and whether there may be one.

use std::time::Duration;

use crate::{
    call::{CallContext, CallId},
    layers::{
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
    /// How long the first attempt has to itself, `None` if that is not known yet; and how long a
    /// second one may well take, as far as that tells.
    pub(super) fn delay(self, latency: Option<&Latency>) -> (Option<Duration>, Duration) {
        match self {
            Self::After(delay) => (Some(delay), Duration::ZERO),
            Self::At(percentile) => {
                let delay = latency.and_then(|latency| latency.percentile(percentile));
                (delay, delay.unwrap_or_default())
            }
        }
    }
}

/// What a second attempt is made of, until it is due.
pub(super) struct SecondAttempt<S, R> {
    pub(super) delay: Duration,
    pub(super) service: S,
    pub(super) request: R,
}

/// What a second attempt is subject to.
pub(super) struct HedgeTerms {
    /// The context of the first attempt.
    pub(super) call: CallContext,
    pub(super) needed: Duration,
    pub(super) budget: RetryBudget,
}

impl HedgeTerms {
    /// Whether what is left `delay` from now can hold an attempt.
    pub(super) fn leave_time_after(&self, delay: Duration) -> bool {
        self.call.deadline.is_none_or(|deadline| {
            let left = deadline.remaining().saturating_sub(delay);
            !left.is_zero() && left >= self.needed
        })
    }

    /// Whether the call is still one that gets a second attempt.
    pub(super) fn hold(&self) -> bool {
        !self.call.cancel.is_cancelled() && self.leave_time_after(Duration::ZERO)
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

    pub(super) fn call_id(&self) -> Option<u64> {
        self.call.call_id.map(CallId::get)
    }
}
