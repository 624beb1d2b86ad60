//! One operation under limits: the function behind all that this module offers.
//!
//! Invariants:
//! 1. What is late or cancelled when it is first polled does not start.
//! 2. The operation is polled before the cancellation, and that before the clock: what is ready wins.
//! 3. The operation is dropped before the outcome is returned.
//! 4. What ended the operation first is its outcome, whatever follows in its grace.

use std::{
    future::poll_fn,
    mem,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    TimeoutError,
    outcome::{Outcome, TimeoutResult},
};
use crate::{
    call::{
        CallId, Cancel, CancelGrace, Cause, Deadline, Enclosing, Limit, Scope, Waits, drop_scope,
        termination::{Terminated, Termination},
    },
    error::{Cancelled, Elapsed, Stage},
};

/// The limit of an operation itself, beside a deadline over it and others.
#[derive(Clone, Copy, Debug)]
pub(super) enum OwnLimit {
    None,
    After(Duration),
    At(Deadline),
}

impl From<Option<Duration>> for OwnLimit {
    fn from(limit: Option<Duration>) -> Self {
        limit.map_or(Self::None, Self::After)
    }
}

/// What ends an operation early.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    pub(super) limit: Option<Limit>,
    /// Whether the limit has passed already. An operation is polled once under a limit of zero, as
    /// with the layers, and not at all after a deadline.
    pub(super) late: bool,
    /// Ends it when cancelled; where there is a grace, also the signal that the grace begins.
    pub(super) node: Cancel,
    pub(super) grace: Duration,
    /// The same, as the layers inside read it.
    pub(super) cancel_grace: Option<CancelGrace>,
    /// What of a call waits, and gets no grace.
    pub(super) waits: Waits,
    pub(super) call: Option<CallId>,
}

impl Bounds {
    /// The tighter of an operation's own limit and of a deadline, which is named when the two
    /// coincide.
    pub(super) fn new(since: Instant, own: OwnLimit, deadline: Option<Deadline>) -> Self {
        let own_end = match own {
            OwnLimit::None => None,
            OwnLimit::After(limit) => Some(Deadline::at(since).later_by(limit)),
            OwnLimit::At(deadline) => Some(deadline),
        };
        let (at, scope) = match (own_end, deadline) {
            (Some(own), Some(deadline)) if own < deadline => (own, Scope::Attempt),
            (_, Some(deadline)) => (deadline, Scope::Deadline),
            (Some(own), None) => (own, Scope::Attempt),
            (None, None) => return Self::default(),
        };
        let grace = Duration::ZERO;
        let limit = Limit {
            at,
            scope,
            since,
            grace,
        };
        let is_deadline = scope == Scope::Deadline || matches!(own, OwnLimit::At(_));
        Self {
            limit: Some(limit),
            late: is_deadline && limit.was_past(),
            ..Self::default()
        }
    }

    /// Why the operation is not to start.
    fn refusal(&self) -> Option<Terminated> {
        let late = self.late.then_some(Terminated::DeadlinePassed);
        self.node.cause().map(Terminated::Cancelled).or(late)
    }
}

/// Drops an operation that is not to start.
pub(super) fn refuse<F, E>(cause: Cause, operation: F) -> TimeoutError<E> {
    drop_scope::with(cause, || drop(operation));
    Cancelled::new(cause).into()
}

/// Runs `operation` within `bounds`. What a caller gets is this future, fused: polled after its end,
/// it stays pending.
pub(super) async fn run<F>(operation: F, bounds: Bounds) -> TimeoutResult<F::Output>
where
    F: Future,
    F::Output: Outcome,
{
    let mut operation = pin!(Some(operation));
    let at = bounds.limit.map(|limit| limit.at);
    let mut termination = pin!(Termination::new(bounds.node.clone(), at));
    let (ended, stage) = match bounds.refusal() {
        Some(ended) => (ended, Stage::BeforeStart),
        None => match until_end(operation.as_mut(), termination.as_mut(), &bounds).await {
            Ok(outcome) => return outcome.into_result().map_err(TimeoutError::Failed),
            Err(end) => end,
        },
    };
    let elapsed = match ended {
        Terminated::DeadlinePassed => bounds.limit,
        Terminated::Cancelled(_) => None,
    };
    let cause = elapsed.map_or_else(|| ended.cause(), |limit| limit.cause());
    let has_grace = stage == Stage::Running && !bounds.grace.is_zero();
    if has_grace {
        if let Some(grace) = &bounds.cancel_grace {
            grace.begin(Deadline::within(bounds.grace).instant());
        }
        termination.as_mut().begin_grace(bounds.grace, cause);
        poll_fn(|cx| match poll(operation.as_mut(), cx) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => termination.as_mut().poll_grace(cx),
        })
        .await;
    }
    let report = drop_scope::end(cause, None, || operation.set(None));
    let stage = match stage {
        Stage::Running if report.waited && !has_grace => Stage::Waiting,
        stage => stage,
    };
    let error = match elapsed {
        Some(limit) => Elapsed::of(&limit, stage).with_spent(report.spent).into(),
        None => Cancelled::new(cause).with_spent(report.spent).into(),
    };
    let call_id = bounds.call.map(CallId::get);
    tracing::debug!(target: "tower_dspy", call_id, %cause, ?stage, "an operation was ended");
    Err(error)
}

/// Polls the operation until it is done or is to end, in whatever stage it then is. Where an
/// enclosing handler or layer ends it, it goes on until the end of that one's grace.
async fn until_end<F: Future>(
    mut operation: Pin<&mut Option<F>>,
    mut termination: Pin<&mut Termination>,
    bounds: &Bounds,
) -> Result<F::Output, (Terminated, Stage)> {
    let mut left_until: Option<Pin<Box<Sleep>>> = None;
    let mut gave_way = false;
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = poll(operation.as_mut(), cx) {
            return Poll::Ready(Ok(outcome));
        }
        let was_ended = termination.ended().is_some();
        let ended = ready!(termination.as_mut().poll(cx));
        let stage = if bounds.waits.any() {
            Stage::Waiting
        } else {
            Stage::Running
        };
        if !was_ended && stage == Stage::Running {
            let now = Instant::now();
            let outer_end = Enclosing::of_node(&bounds.node).drops_at(now);
            let outer_end = outer_end.filter(|at| *at > now);
            left_until = outer_end.map(|at| Box::pin(sleep_until(at)));
        }
        if let Some(left_until) = &mut left_until {
            ready!(left_until.as_mut().poll(cx));
            if !mem::replace(&mut gave_way, true) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        Poll::Ready(Err((ended, stage)))
    })
    .await
}

fn poll<F: Future>(operation: Pin<&mut Option<F>>, cx: &mut Context<'_>) -> Poll<F::Output> {
    operation
        .as_pin_mut()
        .map_or(Poll::Pending, |operation| operation.poll(cx))
}
