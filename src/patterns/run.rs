//! One operation under limits: the function behind all that this module offers.
//!
//! Invariants:
//! 1. What is late or cancelled when it is first polled does not start.
//! 2. The operation is polled before the cancellation, and that before the clock: what is ready wins.
//! 3. The operation is dropped before the outcome is returned.
//! 4. What ended the operation first is its outcome, whatever follows in its grace.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    TimeoutError,
    outcome::{Outcome, TimeoutResult},
};
use crate::{
    call::{
        CallId, Cancel, Cause, Deadline, drop_scope,
        termination::{Terminated, Termination},
    },
    error::{Cancelled, Scope, Stage},
    layers::guard::{
        Limit,
        enclosing::{self, End},
        observe,
    },
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
        let limit = Limit { at, scope, since };
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
    if stage == Stage::Running && !bounds.grace.is_zero() {
        termination.as_mut().begin_grace(bounds.grace, cause);
        let passed = elapsed.map(|limit| limit.at.instant());
        let began = Instant::now();
        let end = End {
            at: passed.map_or(began, |passed| passed.min(began)),
            grace: true,
            begun: true,
        };
        poll_fn(|cx| {
            let polled = enclosing::with(Some(end), || poll(operation.as_mut(), cx));
            match polled {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => termination.as_mut().poll_grace(cx),
            }
        })
        .await;
    }
    let spent = drop_scope::collect(cause, || operation.set(None));
    let error = match elapsed {
        Some(limit) => limit.elapsed(stage).with_spent(spent).into(),
        None => Cancelled::new(cause).with_spent(spent).into(),
    };
    let call_id = bounds.call.map(CallId::get);
    tracing::debug!(target: "tower_dspy", call_id, %cause, ?stage, "an operation was ended");
    Err(error)
}

/// Polls the operation until it is done or is to end, in whatever stage it then is.
async fn until_end<F: Future>(
    mut operation: Pin<&mut Option<F>>,
    mut termination: Pin<&mut Termination>,
    bounds: &Bounds,
) -> Result<F::Output, (Terminated, Stage)> {
    let grace = !bounds.grace.is_zero();
    let end = bounds.limit.map(|limit| End {
        at: limit.at.instant(),
        grace,
        begun: false,
    });
    let nodes = grace.then(|| [bounds.node.clone(), Cancel::none()]);
    poll_fn(|cx| {
        let (polled, waits) = observe(|| {
            enclosing::watched(nodes.clone(), || {
                enclosing::with(end, || poll(operation.as_mut(), cx))
            })
        });
        if let Poll::Ready(outcome) = polled {
            return Poll::Ready(Ok(outcome));
        }
        let ended = ready!(termination.as_mut().poll(cx));
        let at = match (ended, end) {
            (Terminated::DeadlinePassed, Some(end)) => end.at,
            _ => Instant::now(),
        };
        let stage = if waits {
            Stage::Waiting
        } else {
            Stage::Running
        };
        if enclosing::sees_to(at, stage, false) {
            return Poll::Pending;
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
