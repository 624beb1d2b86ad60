//! [`TimeoutLayer`]: the limit of one attempt.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;
use tower::{Layer, Service};

use super::guard::{Droppable, Guard, GuardedFuture, LimitAlarm};
use crate::{
    call::{CallContext, CallTag, Carrier, Deadline, Limit, Scope},
    error::Elapsed,
};

/// Ends each attempt that takes longer than a limit.
///
/// The limit starts at `call`. It is merged with the deadline in the request's context, and the
/// earlier of the two travels inward in the context, so nothing inside takes it for more. When it
/// passes, the inner future is dropped at once, with [`Cause::Elapsed`](crate::Cause::Elapsed) as
/// the cause that [`drop_scope`](crate::drop_scope) tells. At that instant the service inside, which
/// reads the deadline in the context, signals its work. The call is answered with [`Elapsed`]: of [`Scope::Attempt`], or of [`Scope::Deadline`] if the deadline in the context was
/// no later than the limit. (Where a layer around this one enforces that deadline, the end is left
/// to it, and the error gives its name.) A call whose deadline has already passed is answered so without
/// calling the inner service. An answer that is ready at the very instant of the limit wins.
///
/// ```
/// use std::time::Duration;
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_dspy::{Error, Scope, TimeoutLayer, WithContext};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let service = ServiceBuilder::new()
///     .layer(TimeoutLayer::new(Duration::from_secs(4)))
///     .service_fn(|question: WithContext<&'static str>| async move {
///         tokio::time::sleep(Duration::from_secs(60)).await;
///         Ok::<_, Error>(question.request.len())
///     });
///
/// let error = service.oneshot(WithContext::new("why?")).await.unwrap_err();
/// assert!(matches!(error, Error::Elapsed(elapsed) if elapsed.scope() == Scope::Attempt));
/// # }
/// ```
///
/// # A quick try, then a longer one
/// Two limits around one service, the longer as the fallback of the shorter:
///
/// ```
/// use std::time::Duration;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_dspy::{DeadlineLayer, Error, ErrorKind, FallbackLayer, TimeoutLayer, WithContext};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Error> {
/// let program = service_fn(|question: WithContext<&'static str>| async move {
///     tokio::time::sleep(Duration::from_secs(12)).await;
///     Ok::<_, Error>(question.request.len())
/// });
/// let longer = TimeoutLayer::new(Duration::from_secs(30));
/// let longer = ServiceBuilder::new().layer(longer).service(program);
/// let service = ServiceBuilder::new()
///     .layer(DeadlineLayer::new(Duration::from_secs(60)))
///     .layer(FallbackLayer::service(longer).on_kinds([ErrorKind::Elapsed]))
///     .layer(TimeoutLayer::new(Duration::from_secs(5)))
///     .service(program);
///
/// let start = tokio::time::Instant::now();
/// assert_eq!(service.oneshot(WithContext::new("why?")).await?, 4);
/// assert_eq!(start.elapsed(), Duration::from_secs(5 + 12));
/// # Ok(())
/// # }
/// ```
///
/// For plain futures see [`timeout`](crate::patterns::timeout).
///
/// # What it demands of the inner service
/// An error that can be made from [`Elapsed`], such as [`Error`](crate::Error) or
/// [`BoxError`](tower::BoxError), and a request that is a [`Carrier`].
///
/// # Grace
/// [`with_grace`](Self::with_grace) gives the work time to clean up: when the limit passes, the node
/// in the request's context is cancelled, and the inner future is polled on until it is done or the
/// grace has ended. The outcome is [`Elapsed`] either way, and comes that much later. Limits around
/// this one hold during the grace too. Each call then costs the allocations of a cancellation node.
///
/// # How it differs from tower's `Timeout`
/// - The inner future, and the permits in it, go the moment the limit passes; tower's keeps them
///   until the response future itself is dropped.
/// - The error stays the inner service's own type.
/// - It reads and tightens the deadline in the request.
/// - As with tower's, waiting for the inner service to be ready is not limited: that happens in
///   `poll_ready`, before there is a call. [`DeadlineLayer`](super::DeadlineLayer) limits it.
///
/// # Panics
/// The future panics if it has to wait outside a tokio runtime with its timer enabled.
///
/// # Cancel safety
/// Dropping the response future drops the inner one and does nothing else.
#[derive(Clone, Copy, Debug)]
pub struct TimeoutLayer {
    limit: Duration,
    grace: Duration,
}

impl TimeoutLayer {
    /// Limits each attempt to `limit`. `Duration::MAX` leaves only the request's own deadline.
    #[must_use]
    pub const fn new(limit: Duration) -> Self {
        Self {
            limit,
            grace: Duration::ZERO,
        }
    }

    /// Lets the work clean up for as long as `grace` after the limit passed. Zero is none.
    #[must_use]
    pub const fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    fn guard(&self, context: &mut CallContext) -> Guard<LimitAlarm> {
        let since = Instant::now();
        let limit = Limit {
            at: Deadline::at(since).later_by(self.limit),
            scope: Scope::Attempt,
            since,
            grace: self.grace,
        };
        guard_attempt(limit, context)
    }
}

/// Puts the limit of an attempt, or the deadline in its context if that is no later, in force in the
/// context, unless it is left to an enclosing layer.
pub(super) fn guard_attempt(mut limit: Limit, context: &mut CallContext) -> Guard<LimitAlarm> {
    if let Some(outer) = context.deadline
        && outer <= limit.at
    {
        limit.at = outer;
        limit.scope = Scope::Deadline;
    }
    let enclosing = context.enclosing();
    let outer = enclosing.limit_over(limit.at);
    // An attempt that is given no time at all is still polled once: what is ready wins.
    if limit.scope == Scope::Deadline && limit.was_past() {
        return Guard::refused(limit, outer, enclosing, CallTag::of(context));
    }
    Guard::enforce(limit, outer, enclosing, context)
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Timeout<S> {
        Timeout {
            inner,
            config: *self,
        }
    }
}

/// Ends each attempt that takes longer than a limit; see [`TimeoutLayer`].
#[derive(Clone, Copy, Debug)]
pub struct Timeout<S> {
    inner: S,
    config: TimeoutLayer,
}

impl<S> Timeout<S> {
    /// Limits each attempt of `inner` to `limit`.
    #[must_use]
    pub const fn new(inner: S, limit: Duration) -> Self {
        Self {
            inner,
            config: TimeoutLayer::new(limit),
        }
    }

    inner_service_accessors!();
}

impl<S, R> Service<R> for Timeout<S>
where
    S: Service<R>,
    S::Error: From<Elapsed>,
    R: Carrier,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = TimeoutFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: R) -> Self::Future {
        let guard = self.config.guard(request.context_mut());
        GuardedFuture::new(guard, || Droppable::new(self.inner.call(request)))
    }
}

/// The response future of [`Timeout`].
pub type TimeoutFuture<F> = GuardedFuture<Droppable<F>, LimitAlarm>;
