//! The decision to try again.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::sleep;
use tower::retry::Policy;

use super::{
    backoff::Backoff,
    budget::{Reservation, RetryBudget},
};
use crate::{
    call::{CallContext, Cancel, Carrier, Deadline},
    error::ErrorKind,
    layers::classify::{ByClassify, Classifier, Kinds},
    telemetry::metrics,
};

/// A retry cannot help these: there is no time, or no budget, or nobody who wants the answer.
pub(super) const NEVER: Kinds = Kinds::of(&[
    ErrorKind::Deadline,
    ErrorKind::Cancelled,
    ErrorKind::ShuttingDown,
    ErrorKind::BudgetExceeded,
]);

/// Decides whether a failed attempt is followed by another, and when: a
/// [`tower::retry::Policy`], for those who build on [`tower::retry::Retry`] themselves.
///
/// Made by [`RetryLayer::into_policy`](super::RetryLayer::into_policy). There is a clone for each
/// call; all share the budget.
#[derive(Debug)]
pub struct RetryPolicy<C = ByClassify> {
    /// One for all calls: each has a clone of the policy in its future.
    pub(super) rules: Arc<Rules>,
    pub(super) classify: C,
    /// The retries of this call so far. Zero in the policy that all calls are cloned from.
    pub(super) done: u32,
    /// What the next attempt will cost, between the decision and the attempt.
    pub(super) reservation: Option<Reservation>,
}

/// What holds for each call.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) retries: u32,
    pub(super) kinds: Kinds,
    pub(super) backoff: Backoff,
    pub(super) min_attempt: Duration,
    /// Whether an attempt waits for the end of the work before it.
    pub(super) after_settled: bool,
    pub(super) budget: RetryBudget,
}

impl<C> RetryPolicy<C> {
    /// The wait before the next attempt, after a failure with `error`; `None` if the call is not
    /// retried.
    pub(super) fn decide<E>(&mut self, context: &mut CallContext, error: &E) -> Option<Duration>
    where
        C: Classifier<E>,
    {
        let rules = &*self.rules;
        let kind = self.classify.kind(error);
        let is_retried = self.done < rules.retries && rules.kinds.contains(kind);
        if !is_retried || context.cancel.is_cancelled() {
            return None;
        }
        let call_id = context.id().get();
        let left = context.wait_limit().map(|limit| limit.remaining());
        let no_retry = |why: &str| {
            tracing::debug!(target: "tower_dspy", call_id, ?kind, ?left, "no retry: {why}");
        };
        let retry_after = self.classify.retry_after(error).unwrap_or_default();
        let wait = rules.backoff.wait(self.done).max(retry_after);
        if left.is_some_and(|left| left.saturating_sub(wait) <= rules.min_attempt) {
            no_retry("too little time is left");
            return None;
        }
        self.reservation = rules.budget.reserve();
        if self.reservation.is_none() {
            no_retry("the retry budget is used up");
            metrics::retry_refused();
            return None;
        }
        self.done += 1;
        context.attempt = context.attempt.saturating_add(1);
        tracing::debug!(
            target: "tower_dspy",
            call_id,
            attempt = context.attempt,
            ?kind,
            backoff = ?wait,
            "the attempt failed; there will be another",
        );
        Some(wait)
    }

    /// Pays for an attempt with `request`, the first included, right before it is sent, and returns
    /// the request for a further one, if there may be one.
    pub(super) fn begin_attempt<R: Carrier + Clone>(&mut self, request: &R) -> Option<R> {
        if let Some(context) = request.context()
            && let Some(record) = &context.record
        {
            record.begin_attempt(context.attempt);
        }
        match self.reservation.take() {
            Some(reservation) => {
                reservation.spend();
                metrics::retried();
            }
            None => self.rules.budget.deposit(),
        }
        (self.done < self.rules.retries).then(|| request.clone())
    }

    /// The node that the work of an attempt with `request` will be below, where the next attempt waits
    /// for its end; none where it does not.
    pub(super) fn work_node(&self, request: &mut impl Carrier) -> Cancel {
        if !self.rules.after_settled {
            return Cancel::none();
        }
        let context = request.context_mut();
        context.cancel = context.cancel.child();
        context.cancel.clone()
    }

    /// When an attempt has to begin that would be in time for the call.
    pub(super) fn begins_by(&self, context: &CallContext) -> Option<Deadline> {
        let limit = context.wait_limit()?;
        Some(limit.earlier_by(self.rules.min_attempt))
    }

    /// An attempt was answered, and so the request is.
    pub(super) fn note_answer(&self) {
        self.rules.budget.deposit_answer();
    }
}

impl<R, T, E, C> Policy<R, T, E> for RetryPolicy<C>
where
    R: Carrier + Clone,
    C: Classifier<E>,
{
    type Future = BoxFuture<'static, ()>;

    fn retry(&mut self, request: &mut R, result: &mut Result<T, E>) -> Option<Self::Future> {
        match result {
            Ok(_) => {
                self.note_answer();
                None
            }
            Err(error) => {
                let wait = self.decide(request.context_mut(), error)?;
                Some(Box::pin(pause(wait)))
            }
        }
    }

    fn clone_request(&mut self, request: &R) -> Option<R> {
        self.begin_attempt(request)
    }
}

impl<C: Clone> Clone for RetryPolicy<C> {
    #[inline]
    fn clone(&self) -> Self {
        Self {
            rules: Arc::clone(&self.rules),
            classify: self.classify.clone(),
            done: self.done,
            // A permit is never doubled.
            reservation: None,
        }
    }
}

/// The wait between two attempts.
pub(super) async fn pause(wait: Duration) {
    // A timer rounds up to the next millisecond, also from zero.
    if !wait.is_zero() {
        sleep(wait).await;
    }
}
