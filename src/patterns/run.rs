//! One operation under limits: the guard of the layers, around any future.
//!
//! Beside the invariants of the guard: an operation that is cancelled, or late, when it is first
//! polled does not start.

use std::{future::poll_fn, pin::pin, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    TimeoutError,
    outcome::{Outcome, TimeoutResult},
};
use crate::{
    call::{
        CallId, CallTag, Cancel, Cause, Deadline, Enclosing, Limit, Scope, Spent,
        termination::{Terminated, Termination},
    },
    error::{Cancelled, Elapsed, Stage},
    layers::guard::{Alarm, Droppable, Grace, Guard},
};

/// The limit and the cancellation of an operation: the alarm of its guard. At one instant the
/// cancellation wins.
pub(super) struct Bounds {
    since: Instant,
    pub(super) limit: Option<Limit>,
    /// Whether the limit is a deadline that has passed. An operation is polled once under a limit of
    /// zero, as with the layers, and not at all after a deadline.
    late: bool,
    node: Cancel,
    /// A node whose cancellation cancels `node` as well.
    pub(super) outer: Option<Cancel>,
    pub(super) grace: Option<Box<Grace>>,
    call: Option<CallId>,
    /// Whether it is the limit that ends the operation.
    elapsed: bool,
}

impl Bounds {
    /// Ends an operation that starts now when `node` is cancelled.
    pub(super) fn new(node: Cancel) -> Self {
        Self {
            since: Instant::now(),
            limit: None,
            late: false,
            node,
            outer: None,
            grace: None,
            call: None,
            elapsed: false,
        }
    }

    /// Names the operation in the log.
    pub(super) const fn call(mut self, id: CallId) -> Self {
        self.call = Some(id);
        self
    }

    /// Ends the operation after `limit`, if that is earlier than the limits before.
    pub(super) fn within(mut self, limit: Option<Duration>) -> Self {
        if let Some(limit) = limit {
            self.limit_at(Deadline::at(self.since).later_by(limit), Scope::Attempt);
        }
        self
    }

    /// Ends the operation at `deadline`, if that is no later than the limits before.
    pub(super) fn until(mut self, deadline: Option<Deadline>, scope: Scope) -> Self {
        if let Some(deadline) = deadline {
            self.late |= deadline.instant() <= self.since;
            self.limit_at(deadline, scope);
        }
        self
    }

    fn limit_at(&mut self, at: Deadline, scope: Scope) {
        if self.limit.is_none_or(|limit| at <= limit.at) {
            self.limit = Some(Limit {
                at,
                scope,
                since: self.since,
                grace: Duration::ZERO,
            });
        }
    }

    /// Why the operation is not to start; `None` if it may.
    fn refusal(&self) -> Option<Terminated> {
        let outer = || self.outer.as_ref().and_then(Cancel::cause);
        let cancelled = self.node.cause().or_else(outer).map(Terminated::Cancelled);
        cancelled.or(self.late.then_some(Terminated::DeadlinePassed))
    }
}

/// Runs `operation` within `bounds`.
pub(super) async fn run<F>(operation: F, mut bounds: Bounds) -> TimeoutResult<F::Output>
where
    F: IntoFuture<Output: Outcome>,
{
    let refusal = bounds.refusal().map(|refusal| bounds.cause(refusal));
    let enclosing = Enclosing::of_node(&bounds.node);
    let tag = CallTag {
        call: bounds.call,
        attempt: 0,
    };
    let grace = bounds.grace.take();
    let mut guard = Guard::new(bounds, enclosing, tag).with_grace(grace);
    if let Some(cause) = refusal {
        guard = guard.refusing(cause);
    }
    let work = async { Ok(operation.await.into_result()) };
    let mut work = pin!(Droppable::new(work));
    let ended: Result<_, TimeoutError> = poll_fn(|cx| guard.poll(work.as_mut(), cx)).await;
    match ended {
        Ok(result) => result.map_err(TimeoutError::Failed),
        Err(end) => Err(end.map_failed(|never| match never {})),
    }
}

impl Alarm for Bounds {
    type Error = TimeoutError;

    fn termination(&self) -> Option<Termination> {
        let at = self.limit.map(|limit| limit.at);
        Some(Termination::new(self.node.clone(), at).with_shared(self.outer.clone()))
    }

    fn cause(&mut self, ended: Terminated) -> Cause {
        // What is around the operation may have seen a deadline before the operation saw its own limit,
        // which is no later.
        self.elapsed = ended == Terminated::DeadlinePassed
            || ended == Terminated::Cancelled(Cause::Deadline)
                && self.limit.is_some_and(|limit| limit.at.is_past());
        match self.limit {
            Some(limit) if self.elapsed => limit.cause(),
            _ => ended.cause(),
        }
    }

    fn error(
        &self,
        cause: Cause,
        stage: Stage,
        spent: Option<Arc<Spent>>,
        call: Option<CallId>,
    ) -> TimeoutError {
        match &self.limit {
            Some(limit) if self.elapsed => {
                let elapsed = Elapsed::of(limit, stage).with_spent(spent);
                elapsed.with_call_id(call).into()
            }
            _ => {
                let cancelled = Cancelled::new(cause).with_stage(stage);
                cancelled.with_spent(spent).with_call_id(call).into()
            }
        }
    }
}
