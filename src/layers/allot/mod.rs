//! [`AllotLayer`]: a share of the time left for one step of a call.

mod time_share;

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;
use tower::{Layer, Service};

use self::time_share::TimeShare;
use super::{
    deadline::DeadlineFuture,
    guard::{Guard, GuardedFuture, LimitAlarm, ReadyCall},
    latency::{Feasibility, Latency, OutOfRange, Percentile},
};
use crate::{
    call::{CallContext, CallTag, Carrier, Deadline, Limit, Scope},
    error::Elapsed,
};

/// Gives one step of a call a share of the time that is left, and stops it when that has passed.
///
/// A call of several steps, such as retrieving, answering and checking the answer, has one deadline.
/// Without shares its first step may use up all of it. Each step gets a layer of its own, whose
/// share is of what is left when the step begins: time that an earlier step did not need goes to
/// those after it, and the shares never exceed the deadline together.
///
/// ```
/// use std::time::Duration;
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_dspy::{AllotLayer, CallContext, Deadline, Error, Scope, WithContext};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Three steps, of which this is the first; it takes 60 s.
/// let retrieve = ServiceBuilder::new()
///     .layer(AllotLayer::even(3))
///     .service_fn(|_: WithContext<&'static str>| async {
///         tokio::time::sleep(Duration::from_secs(60)).await;
///         Ok::<_, Error>("sources")
///     });
/// let answer = ServiceBuilder::new()
///     .layer(AllotLayer::all_but(Duration::from_secs(1)))
///     .service_fn(|_: WithContext<&'static str>| async {
///         tokio::time::sleep(Duration::from_secs(5)).await;
///         Ok::<_, Error>("answer")
///     });
///
/// let mut call = WithContext::new("why?");
/// call.context.limit(Deadline::within(Duration::from_secs(9)));
/// // It is stopped after 3 of the 9 s, and the next step still has 5, and 1 is kept.
/// let error = retrieve.oneshot(call.clone()).await.unwrap_err();
/// assert!(matches!(error, Error::Elapsed(elapsed) if elapsed.scope() == Scope::Share));
/// assert_eq!(answer.oneshot(call).await?, "answer");
/// # Ok(())
/// # }
/// ```
///
/// # What it does to a request
/// The deadline in its context becomes the end of the share, which this layer enforces: the inner
/// future is dropped at once, with [`Cause::Elapsed`](crate::Cause::Elapsed) as the cause that
/// [`drop_scope`](crate::drop_scope) tells, and the step is answered with [`Elapsed`] of
/// [`Scope::Share`]; or of [`Scope::Deadline`] if the share is all that is left. An answer that is
/// ready at that very instant wins. A step for which nothing is left is refused without calling the
/// inner service. A call without a deadline has no share either, unless
/// [`with_default`](Self::with_default) gives it one.
///
/// # Steps that come too late
/// With [`with_latency`](Self::with_latency) the layer counts and logs the steps whose share is less
/// than such steps take; [`reject_infeasible`](Self::reject_infeasible) answers them at once, so that their
/// work is saved and a fallback has the time.
///
/// # What it demands of the inner service
/// `Clone`, an error that can be made from [`Elapsed`], and a request that is a [`Carrier`].
///
/// The service is always ready: each step waits, within its share, for the readiness of a clone of
/// its own. So what answers for readiness, such as a load shed, belongs inside.
///
/// # How it differs from other limits
/// tower has nothing of the kind. [`TimeoutLayer`](super::TimeoutLayer) has a fixed limit, whatever
/// is left; [`FallbackLayer`](super::FallbackLayer)'s reserve keeps time for one particular second
/// step.
///
/// # Panics
/// The future panics if it has to wait outside a tokio runtime with its timer enabled.
///
/// # Cancel safety
/// Dropping the response future drops the inner service's clone, or its future, and does nothing
/// else.
#[derive(Clone, Debug)]
pub struct AllotLayer {
    share: TimeShare,
    default: Option<Duration>,
    grace: Duration,
    feasibility: Feasibility,
}

impl AllotLayer {
    /// The same as [`even`](Self::even).
    #[must_use]
    pub const fn new(steps: u32) -> Self {
        Self::even(steps)
    }

    /// An equal share for each of `steps` that are left, this one included. Zero, like one, gives
    /// this step all that is left.
    #[must_use]
    pub const fn even(steps: u32) -> Self {
        Self::of(TimeShare::Even(steps))
    }

    /// `fraction` of what is left. It is rounded to billionths.
    ///
    /// ```
    /// use tower_dspy::AllotLayer;
    ///
    /// assert!(AllotLayer::fraction(0.3).is_ok());
    /// let error = AllotLayer::fraction(30.0).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "a fraction of the time left is more than 0 and at most 1, as 0.3 is; got 30",
    /// );
    /// ```
    ///
    /// # Errors
    /// Unless `fraction` is more than 0, in billionths too, and at most 1.
    pub const fn fraction(fraction: f64) -> Result<Self, OutOfRange> {
        match TimeShare::fraction(fraction) {
            Some(share) => Ok(Self::of(share)),
            None => Err(OutOfRange::fraction(fraction)),
        }
    }

    /// All that is left, but for `reserve`. A step with no more than the reserve left is refused.
    #[must_use]
    pub const fn all_but(reserve: Duration) -> Self {
        Self::of(TimeShare::AllBut(reserve))
    }

    const fn of(share: TimeShare) -> Self {
        Self {
            share,
            default: None,
            grace: Duration::ZERO,
            feasibility: Feasibility::UNKNOWN,
        }
    }

    /// Gives a step of a call without a deadline `limit`: not a share of it.
    #[must_use]
    pub const fn with_default(mut self, limit: Duration) -> Self {
        self.default = Some(limit);
        self
    }

    /// Lets the work clean up for as long as `grace` after its share passed. Zero is none.
    #[must_use]
    pub const fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Counts and logs the steps whose share is less than `percentile` of what `latency` has
    /// recorded: something else has to fill it, as [`RecordLatencyLayer`](super::RecordLatencyLayer) does.
    #[must_use]
    pub fn with_latency(mut self, latency: Latency, percentile: Percentile) -> Self {
        self.feasibility.expect(latency, percentile);
        self
    }

    /// Rejects the steps that [`with_latency`](Self::with_latency) counts, with
    /// [`Stage::BeforeStart`](crate::Stage::BeforeStart). By default they are only counted.
    #[must_use]
    pub const fn reject_infeasible(mut self) -> Self {
        self.feasibility.reject();
        self
    }

    /// How many steps came with too little time, over all services that this layer made.
    #[must_use]
    pub fn infeasible(&self) -> u64 {
        self.feasibility.seen()
    }

    /// The limit of a step that begins now.
    fn limit(&self, context: Option<&CallContext>) -> Option<Limit> {
        let since = Instant::now();
        let (at, scope) = match context.and_then(|context| context.deadline) {
            None => (Deadline::at(since).later_by(self.default?), Scope::Share),
            Some(outer) => {
                let left = outer.remaining_at(since);
                let own = self.share.of(left);
                if own < left {
                    (Deadline::at(since).later_by(own), Scope::Share)
                } else {
                    (outer, Scope::Deadline)
                }
            }
        };
        Some(Limit {
            at,
            scope,
            since,
            grace: self.grace,
        })
    }

    /// Puts the share of a step in force in its context, unless it is left to an enclosing layer.
    fn guard(&self, request: &mut impl Carrier) -> Guard<LimitAlarm> {
        let Some(limit) = self.limit(request.context()) else {
            return Guard::unlimited();
        };
        let context = request.context_mut();
        let enclosing = context.enclosing();
        let outer = enclosing.limit_over(limit.at);
        let tag = CallTag::of(context);
        if self.feasibility.rejects(&limit, tag) {
            return Guard::refused(limit, outer, enclosing, tag);
        }
        Guard::enforce(limit, outer, enclosing, context)
    }
}

impl<S> Layer<S> for AllotLayer {
    type Service = Allot<S>;

    fn layer(&self, inner: S) -> Allot<S> {
        Allot {
            inner,
            config: self.clone(),
        }
    }
}

/// Gives each call a share of the time left; see [`AllotLayer`].
#[derive(Clone, Debug)]
pub struct Allot<S> {
    inner: S,
    config: AllotLayer,
}

impl<S> Allot<S> {
    /// Gives each call of `inner` an equal share, of what is left, for one of `steps`.
    #[must_use]
    pub const fn new(inner: S, steps: u32) -> Self {
        Self {
            inner,
            config: AllotLayer::even(steps),
        }
    }

    inner_service_accessors!();
}

/// The response future of [`Allot`]: the end of a share ends a call as a deadline does.
pub type AllotFuture<S, R> = DeadlineFuture<S, R>;

impl<S, R> Service<R> for Allot<S>
where
    S: Service<R> + Clone,
    S::Error: From<Elapsed>,
    R: Carrier,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = AllotFuture<S, R>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: R) -> Self::Future {
        let guard = self.config.guard(&mut request);
        GuardedFuture::new(guard, || ReadyCall::start(&mut self.inner, request))
    }
}
