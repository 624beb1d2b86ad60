//! [`DeadlineLayer`]: the deadline of the whole call.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;
use tower::{Layer, Service};

use super::{
    guard::{Guard, GuardedFuture, LimitAlarm, ReadyCall},
    latency::{Feasibility, Latency, Percentile},
};
use crate::{
    call::{CallContext, CallTag, Carrier, Deadline, Limit, Scope},
    error::Elapsed,
};

/// Ends the whole call at its deadline, the time it waits for the service included.
///
/// The deadline is the earlier of the layer's own limit, from when it got the call, and of the one
/// that the request brought in its context; less the [reserve](Self::with_reserve). It travels
/// inward in the context. A call that comes too late is answered with [`Elapsed`] and costs nothing
/// more; one whose deadline passes is stopped: the inner future is dropped at once, with
/// [`Cause::Deadline`](crate::Cause::Deadline) as the cause that [`drop_scope`](crate::drop_scope)
/// tells. The error's [`stage`](Elapsed::stage) says which it was, and whether the service had
/// taken the call yet. An answer that is ready at the very instant of the deadline wins.
///
/// ```
/// use std::time::Duration;
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_dspy::{DeadlineLayer, Error, Scope, Stage, WithContext};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let service = ServiceBuilder::new()
///     .layer(DeadlineLayer::new(Duration::from_secs(10)))
///     .concurrency_limit(1)
///     .service_fn(|question: WithContext<&'static str>| async move {
///         tokio::time::sleep(Duration::from_secs(60)).await;
///         Ok::<_, Error>(question.request.len())
///     });
///
/// let (first, second) = tokio::join!(
///     service.clone().oneshot(WithContext::new("why?")),
///     service.oneshot(WithContext::new("and why not?")),
/// );
/// let stage = |result: Result<usize, Error>| match result {
///     Err(Error::Elapsed(elapsed)) if elapsed.scope() == Scope::Deadline => elapsed.stage(),
///     other => panic!("{other:?}"),
/// };
/// assert_eq!(stage(first), Stage::Running);
/// assert_eq!(stage(second), Stage::Waiting);
/// # }
/// ```
///
/// # What it demands of the inner service
/// `Clone`, an error that can be made from [`Elapsed`], and a request that is a [`Carrier`].
///
/// The service is always ready: a call whose service is not ready yet takes it along, waits for it
/// within its deadline, and leaves a clone in its place. So no service is left behind that holds a
/// readiness or waits for one. It follows that what answers for readiness, such as tower's
/// `LoadShed` and `ConcurrencyLimit`, belongs inside this layer: a load shed around it never sheds.
///
/// # Grace
/// [`with_grace`](Self::with_grace) gives the work time to clean up: at the deadline the node in the
/// request's context is cancelled, and the inner future is polled on until it is done or the grace
/// has ended. The outcome is [`Elapsed`] either way, and comes that much later. Layers of this crate
/// that are polled inside, in the same task, leave the end to this one. A call that still waits for
/// the service gets no grace; nor does one that makes several calls in one task, as by `join!`, while
/// one of them waits. Each call with a deadline then costs the allocations of a cancellation node.
///
/// # Calls that come too late
/// With [`with_latency`](Self::with_latency) the layer counts and logs the calls that come with less
/// time left than such calls take; [`reject_infeasible`](Self::reject_infeasible) answers them at once and
/// saves their work.
///
/// # How it differs from tower's `Timeout`
/// Tower's starts with the call and knows one limit. This one also limits the wait for readiness,
/// honours a deadline that came with the request and hands it on, refuses what is late, and stops
/// the work before it answers.
///
/// # Panics
/// The future panics if it has to wait outside a tokio runtime with its timer enabled.
///
/// # Cancel safety
/// Dropping the response future drops the inner service that it waits for, or its future, and does
/// nothing else.
#[derive(Clone, Debug)]
pub struct DeadlineLayer {
    limit: Option<Duration>,
    reserve: Duration,
    grace: Duration,
    until_first_content: bool,
    feasibility: Feasibility,
}

impl DeadlineLayer {
    /// Ends each call after `limit`, or at the deadline it came with if that is earlier.
    #[must_use]
    pub const fn new(limit: Duration) -> Self {
        let mut layer = Self::from_context();
        layer.limit = Some(limit);
        layer
    }

    /// Ends each call at the deadline it came with; a call without one has no limit.
    #[must_use]
    pub const fn from_context() -> Self {
        Self {
            limit: None,
            reserve: Duration::ZERO,
            grace: Duration::ZERO,
            until_first_content: false,
            feasibility: Feasibility::UNKNOWN,
        }
    }

    /// Keeps `reserve` back for sending the answer: the work has to end that much earlier.
    ///
    /// A call with no more than the reserve left is refused.
    #[must_use]
    pub const fn with_reserve(mut self, reserve: Duration) -> Self {
        self.reserve = reserve;
        self
    }

    /// Ends the deadline with the first content of a stream, also that which came with the request or
    /// from a session: a
    /// [`PredictionStream`](crate::PredictionStream) may go on after it.
    ///
    /// Without this it bounds a stream as a whole, as gRPC's deadline does. For other responses
    /// nothing changes.
    #[must_use]
    pub const fn until_first_content(mut self) -> Self {
        self.until_first_content = true;
        self
    }

    /// Lets the work clean up for as long as `grace` after the deadline passed. Zero is none.
    #[must_use]
    pub const fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Counts and logs the calls that come with less time left than `percentile` of what `latency`
    /// has recorded: something else has to fill it, as [`RecordLatencyLayer`](super::RecordLatencyLayer) and
    /// [`HedgeLayer`](super::HedgeLayer) do.
    #[must_use]
    pub fn with_latency(mut self, latency: Latency, percentile: Percentile) -> Self {
        self.feasibility.expect(latency, percentile);
        self
    }

    /// Rejects the calls that [`with_latency`](Self::with_latency) counts, with
    /// [`Stage::BeforeStart`](crate::Stage::BeforeStart). By default they are only counted.
    ///
    /// Rejected calls are not recorded, but the window of the
    /// [`Latency`]: a service that was slow for a while is tried again, half a window to a whole one
    /// later. After a brown-out (`cargo bench --bench brownout`) a stack with all controls is well again
    /// in 2 s with a window of 10 s, and in 33 s with one of 60 s, the default.
    #[must_use]
    pub const fn reject_infeasible(mut self) -> Self {
        self.feasibility.reject();
        self
    }

    /// How many calls came with too little time, over all services that this layer made.
    #[must_use]
    pub fn infeasible(&self) -> u64 {
        self.feasibility.seen()
    }

    /// The limit for the work of a call that arrives now, and whether it is this layer's own and not
    /// the deadline that came with the call.
    fn limit(&self, inbound: Option<Deadline>) -> Option<(Limit, bool)> {
        let since = Instant::now();
        let own = self.limit.map(|limit| Deadline::at(since).later_by(limit));
        let deadline = own.into_iter().chain(inbound).min()?;
        let limit = Limit {
            at: deadline.earlier_by(self.reserve),
            scope: Scope::Deadline,
            since,
            grace: self.grace,
        };
        Some((limit, own == Some(deadline)))
    }

    /// Puts the limit of a call in force in its context, unless it is left to an enclosing layer.
    /// The deadline of a stream as a whole: that of the call may be what is left of an attempt.
    fn stream_deadline(&self, context: &CallContext, since: Instant) -> Option<Deadline> {
        if self.until_first_content {
            return None;
        }
        let own = self.limit.map(|limit| Deadline::at(since).later_by(limit));
        let deadline = own.into_iter().chain(context.stream_deadline()).min()?;
        Some(deadline.earlier_by(self.reserve))
    }

    fn guard(&self, request: &mut impl Carrier) -> Guard<LimitAlarm> {
        let inbound = request.context().and_then(|context| context.deadline);
        let Some((limit, is_own)) = self.limit(inbound) else {
            return Guard::unlimited();
        };
        let context = request.context_mut();
        context.id();
        let enclosing = context.enclosing();
        let outer = if is_own {
            enclosing.limit_over_deadline(limit.at)
        } else {
            enclosing.limit_over(limit.at)
        };
        let tag = CallTag::of(context);
        if self.feasibility.rejects(&limit, tag) {
            return Guard::refused(limit, outer, enclosing, tag);
        }
        let stream = self.stream_deadline(context, limit.since);
        let guard = Guard::enforce(limit, outer, enclosing, context);
        match stream {
            Some(deadline) => context.limit_stream(deadline),
            None => context.limit_until_response(),
        }
        guard
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> DeadlineService<S> {
        DeadlineService {
            inner,
            config: self.clone(),
        }
    }
}

/// Ends the whole call at its deadline; see [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub struct DeadlineService<S> {
    inner: S,
    config: DeadlineLayer,
}

impl<S> DeadlineService<S> {
    /// Ends each call of `inner` after `limit`, or at the deadline it came with.
    #[must_use]
    pub const fn new(inner: S, limit: Duration) -> Self {
        Self {
            inner,
            config: DeadlineLayer::new(limit),
        }
    }

    inner_service_accessors!();
}

impl<S, R> Service<R> for DeadlineService<S>
where
    S: Service<R> + Clone,
    S::Error: From<Elapsed>,
    R: Carrier,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = DeadlineFuture<S, R>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: R) -> Self::Future {
        let guard = self.config.guard(&mut request);
        GuardedFuture::new(guard, || ReadyCall::start(&mut self.inner, request))
    }
}

/// The response future of [`DeadlineService`].
pub type DeadlineFuture<S, R> = GuardedFuture<ReadyCall<S, R>, LimitAlarm>;
