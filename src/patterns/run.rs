//! One operation under limits: the guard of the layers, around any future.
//!
//! Beside the invariants of the guard: an operation that is cancelled, or late, when it is first
//! polled does not start.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::{
    TimeoutError,
    outcome::{Outcome, TimeoutResult},
};
use crate::{
    call::{
        CallId, Cancel, Cause, Deadline, Enclosing, Limit, Scope, Spent, termination::Terminated,
    },
    error::{Cancelled, Elapsed, Stage},
    layers::guard::{Alarm, CancelAlarm, Droppable, Grace, Guard, LimitAlarm, Tag},
};

/// The limit and the cancellation of an operation.
pub(super) struct Bounds {
    since: Instant,
    pub(super) limit: Option<Limit>,
    /// Whether the limit is a deadline that has passed. An operation is polled once under a limit of
    /// zero, as with the layers, and not at all after a deadline.
    late: bool,
    node: Cancel,
    /// A node whose cancellation cancels `node` as well.
    pub(super) outer: Option<Cancel>,
    pub(super) grace: Option<Grace>,
    call: Option<CallId>,
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

/// Runs `operation` within `bounds`. Polled after its end, the future stays pending.
pub(super) fn run<F>(
    operation: F,
    bounds: Bounds,
) -> impl Future<Output = TimeoutResult<F::Output>> + use<F>
where
    F: Future<Output: Outcome>,
{
    let refusal = bounds.refusal();
    let alarm = OperationAlarm {
        elapsed: refusal == Some(Terminated::DeadlinePassed),
        limit: LimitAlarm::own(bounds.limit),
        cancellation: CancelAlarm::new(bounds.node.clone(), bounds.outer),
    };
    let work = async { operation.await.into_result().map_err(TimeoutError::Failed) };
    let enclosing = Enclosing::of_node(&bounds.node);
    let tag = Tag {
        call: bounds.call,
        attempt: 0,
    };
    let guard = Guard::new(Droppable::new(work), alarm, bounds.grace, enclosing, tag);
    match (refusal, bounds.limit) {
        (None, _) => guard,
        (Some(Terminated::DeadlinePassed), Some(limit)) => guard.refusing(limit.cause()),
        (Some(refusal), _) => guard.refusing(refusal.cause()),
    }
}

pin_project! {
    /// Rings when an operation is cancelled or its limit passes. At one instant the cancellation
    /// wins.
    struct OperationAlarm {
        #[pin]
        cancellation: CancelAlarm,
        #[pin]
        limit: LimitAlarm,
        // Whether it is the limit that ends the operation.
        elapsed: bool,
    }
}

/// The error of an operation that was ended.
#[derive(Debug)]
pub(super) enum OperationEnd {
    Elapsed(Elapsed),
    Cancelled(Cancelled),
}

impl<E> From<OperationEnd> for TimeoutError<E> {
    fn from(end: OperationEnd) -> Self {
        match end {
            OperationEnd::Elapsed(elapsed) => elapsed.into(),
            OperationEnd::Cancelled(cancelled) => cancelled.into(),
        }
    }
}

impl Alarm for OperationAlarm {
    type Error = OperationEnd;

    fn poll_ring(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Cause> {
        let this = self.project();
        if let Poll::Ready(cause) = this.cancellation.poll_ring(cx) {
            return Poll::Ready(cause);
        }
        let cause = ready!(this.limit.poll_ring(cx));
        *this.elapsed = true;
        Poll::Ready(cause)
    }

    fn error(&self, cause: Cause, stage: Stage, spent: Option<Arc<Spent>>) -> OperationEnd {
        if self.elapsed {
            OperationEnd::Elapsed(self.limit.error(cause, stage, spent))
        } else {
            let cancelled = self.cancellation.error(cause, stage, spent);
            OperationEnd::Cancelled(cancelled.with_stage(stage))
        }
    }
}
