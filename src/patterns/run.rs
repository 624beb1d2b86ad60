//! One operation under limits: the future behind all that this module offers.
//!
//! Invariants:
//! 1. Nothing starts before the first poll, neither the operation nor its limits; what is late or
//!    cancelled by then is not polled at all.
//! 2. The work is polled before the cancellation, and that before the clock: what is ready wins.
//! 3. The operation is gone before its host hears of the end, whatever the end was.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::{
    TimeoutError,
    alarm::{Either, Rang},
    outcome::{Outcome, Settle, TimeoutResult},
};
use crate::{
    call::{CallContext, CallId, Cancel, Cause, Deadline, drop_scope},
    error::Scope,
    layers::guard::{Grace, Guard, Limit, Slot, Tag},
};

/// Whoever runs an operation: it sets the bounds, and hears of the end.
pub(super) trait Host {
    /// The operation is about to start.
    fn begin(&mut self) -> Bounds;

    /// The operation has ended and is gone.
    fn end<T, E>(&mut self, result: Result<T, TimeoutError<E>>) -> Result<T, TimeoutError<E>>;
}

/// What ends an operation early.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    pub(super) limit: Option<Limit>,
    /// Ends it when cancelled; where there is a grace, also the signal that the grace begins.
    pub(super) node: Cancel,
    /// Ends it as well, through `node`.
    pub(super) also: Option<Cancel>,
    pub(super) grace: Duration,
    /// It must not start. A node that is cancelled later than this was asked stops it instead.
    pub(super) refused: Option<Cause>,
    pub(super) call: Option<CallId>,
}

/// The tighter of an operation's own limit from `since` and of a deadline, which is named when the
/// two coincide.
pub(super) fn tighter(
    since: Instant,
    own: Option<Duration>,
    deadline: Option<Deadline>,
) -> Option<Limit> {
    let own = own.map(|limit| Deadline::at(since).later_by(limit));
    let (at, scope) = match (own, deadline) {
        (Some(own), Some(deadline)) if own < deadline => (own, Scope::Attempt),
        (_, Some(deadline)) => (deadline, Scope::Deadline),
        (Some(own), None) => (own, Scope::Attempt),
        (None, None) => return None,
    };
    Some(Limit { at, scope, since })
}

/// Whether an operation with this limit comes too late. One whose own limit is zero is still polled
/// once, as with the layers.
pub(super) fn is_late(limit: &Limit) -> bool {
    limit.scope == Scope::Deadline && limit.was_past()
}

type Guarded<F> = Guard<Slot<Settle<F>>, Either>;

pin_project! {
    /// Runs an operation for a host.
    // The state is dropped first: the operation before its entry in any list.
    pub(super) struct Run<F, H> {
        #[pin]
        state: State<F>,
        host: H,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Idle { operation: Option<F> },
        Live { #[pin] guard: Guarded<F> },
        Done,
    }
}

impl<F, H> Run<F, H> {
    pub(super) const fn new(operation: F, host: H) -> Self {
        Self {
            state: State::Idle {
                operation: Some(operation),
            },
            host,
        }
    }
}

impl<F, H> Future for Run<F, H>
where
    F: Future,
    F::Output: Outcome,
    H: Host,
{
    type Output = TimeoutResult<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Idle { operation } => {
                    // Taken once: the state changes right after.
                    let Some(operation) = operation.take() else {
                        return Poll::Pending;
                    };
                    let guard = guard(operation, this.host.begin());
                    this.state.set(State::Live { guard });
                }
                StateProj::Live { guard } => {
                    let result = ready!(guard.poll(cx));
                    this.state.set(State::Done);
                    return Poll::Ready(this.host.end(result));
                }
                StateProj::Done => return Poll::Pending,
            }
        }
    }
}

fn guard<F>(operation: F, bounds: Bounds) -> Guarded<F>
where
    F: Future,
    F::Output: Outcome,
{
    let Bounds {
        limit,
        node,
        also,
        grace,
        refused,
        call,
    } = bounds;
    let mut context = CallContext::new();
    context.call_id = call;
    let tag = Tag::of(&context);
    let late = limit.filter(is_late).map(|limit| limit.cause());
    let ended = refused.or(late);
    let work = match ended {
        Some(cause) => {
            drop_scope::with(cause, || drop(operation));
            Slot::Gone
        }
        None => Slot::new(Settle::new(operation)),
    };
    let rang = match refused {
        Some(_) => Some(Rang::Watch),
        None => late.map(|_| Rang::Clock),
    };
    let grace = Grace::on(grace, &node);
    let alarm = Either::new(node, also, limit, rang);
    Guard::new(work, alarm, grace, tag).refusing(ended)
}
