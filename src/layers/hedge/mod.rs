//! [`HedgeLayer`]: a second attempt beside a slow one.

mod future;
mod plan;

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tower::{Layer, Service};

pub use self::future::HedgeFuture;
use self::plan::{HedgeDelay, HedgeTerms, SecondAttempt};
use super::{
    classify::{ByClassify, ByFn, Classifier},
    guard::ReadyCall,
    latency::{Latency, Percentile, Stopwatch},
    retry::{RetryBudget, RetryBudgetOptions},
};
use crate::{
    call::{Carrier, Progress, drop_scope::ReportOnDrop},
    error::ErrorKind,
};

/// An attempt that takes longer than most gets a second one beside it; the first answer of the two
/// is the call's, and the other attempt is stopped.
///
/// Most calls of a provider that is well are quick, and a few take many times as long for reasons of
/// their own. For those a fresh attempt is the shorter way. Sent when 95 % of the calls would have
/// been answered, it costs 5 % more calls and cuts the tail: this is the *hedged request* of Dean
/// and Barroso, "The Tail at Scale" (2013), and Finagle's *backup request*.
///
/// ```
/// use std::time::Duration;
/// use serde_json::json;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_dspy::{Carrier, Error, HedgeLayer, PredictRequest, Prediction};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Error> {
/// // Each first attempt is stuck.
/// let program = service_fn(|request: PredictRequest| async move {
///     if request.context().is_none_or(|context| context.attempt == 0) {
///         std::future::pending::<()>().await;
///     }
///     Ok::<_, Error>(Prediction::new(Default::default()))
/// });
/// let program = ServiceBuilder::new()
///     .layer(HedgeLayer::after(Duration::from_secs(2)))
///     .service(program);
///
/// let start = tokio::time::Instant::now();
/// program.oneshot(PredictRequest::new(json!({"question": "..."}))).await?;
/// assert_eq!(start.elapsed(), Duration::from_secs(2));
/// # Ok(())
/// # }
/// ```
///
/// # When there is a second attempt
/// [`after`](HedgeLayer::after) a fixed time, or at a [percentile](HedgeLayer::percentile) of what
/// the layer has seen the first attempts take: then there is none before it has seen enough. The
/// time counts from when the inner service took the first attempt: one that still waits for
/// readiness would only be followed by another that waits behind it. There is no second attempt
/// - if the budget is used up: by default [10 % of the calls](HedgeLayer::with_budget), so that a
///   provider that becomes slow as a whole does not get twice the calls;
/// - if the deadline in the call's context leaves less than the learnt percentile, or than
///   [`with_min_attempt`](HedgeLayer::with_min_attempt);
/// - if the call was cancelled, or the first attempt has failed: hedging is against slowness, and
///   failures are [`RetryLayer`](super::RetryLayer)'s;
/// - as long as no clone of the inner service is ready for it, which does not hold up the first.
///
/// The budget is charged when the inner service takes the second attempt, not before.
///
/// # Which answer is the call's
/// The first that is a success. The other attempt is dropped before it is handed out, with
/// [`Cause::Superseded`](crate::Cause::Superseded) as the cause that
/// [`drop_scope`](crate::drop_scope) tells. If both are ready at one instant, the first attempt's.
///
/// A failure while the other attempt runs is dropped and logged, and the other attempt decides: of
/// two failures the later one is returned. But a failure that the other attempt would only repeat,
/// of the kinds [`ErrorKind::InvalidInput`], [`ErrorKind::LmRejected`], [`ErrorKind::Cancelled`] and
/// [`ErrorKind::Deadline`], is returned at once. An attempt that is refused for a budget may have met what
/// the other one has reserved, so that one still decides.
///
/// # What it learns from
/// First attempts, from when the service took them: those that answered, and those that were
/// stopped, by the second attempt's answer or from outside, after the percentile had passed: they
/// count with the time they had. Without them the percentile would sink with each hedge that wins.
/// Second attempts teach nothing: only the quick ones are seen.
///
/// # What it demands of the inner service
/// `Clone`, and an error that implements [`Classify`](crate::Classify), unless the layer is given [a
/// function](HedgeLayer::classify). The request is a [`Carrier`], and `Clone`. Both attempts have
/// the call's id; the second has an `attempt` one higher, as a retry has.
///
/// The service is always ready: each attempt waits for a clone of the inner service in the call's
/// future, the second one only when it is due. What runs twice has to bear it: a program that writes
/// to a database may do so twice.
///
/// # Where it belongs
/// Inside retry, which then sees one attempt that is seldom slow, and outside the limit of one
/// attempt, which holds for each of the two.
///
/// # How it differs from `tower::hedge`
/// - It has a budget; tower's sends as many as are slow.
/// - tower's stops the loser when the caller drops the response future, and without a cause; this
///   one before it answers.
/// - tower's returns the first result, be it an error, and asks the original for readiness in
///   `poll_ready`, which an idle service goes on to hold.
/// - tower's learns from quick attempts alone, because those that lose are never seen to answer; it
///   is silent for one whole period, and has a resolution of 1 ms.
/// - It heeds the deadline and the cancellation of the request, and the error stays the inner
///   service's own type.
///
/// # Panics
/// The future panics if it has to wait outside a tokio runtime with its timer enabled.
///
/// # Cancel safety
/// Dropping the response future drops both attempts.
#[derive(Clone, Debug)]
pub struct HedgeLayer<C = ByClassify> {
    when: HedgeDelay,
    latency: Option<Latency>,
    min_attempt: Duration,
    budget: RetryBudget,
    classify: C,
}

impl HedgeLayer {
    /// The same as [`percentile`](Self::percentile).
    #[must_use]
    pub fn new(percentile: Percentile) -> Self {
        Self::percentile(percentile)
    }

    /// A second attempt after `delay`.
    #[must_use]
    pub fn after(delay: Duration) -> Self {
        Self::at(HedgeDelay::After(delay), None)
    }

    /// A second attempt when the share `percentile` of the first attempts would have been answered.
    ///
    /// Learnt from the last 60 s, by a [`Latency`] of this layer's own, shared by its clones and by
    /// all services that it makes. [`Percentile::P95`] is the usual one.
    #[must_use]
    pub fn percentile(percentile: Percentile) -> Self {
        Self::at(HedgeDelay::At(percentile), Some(Latency::default()))
    }

    fn at(when: HedgeDelay, latency: Option<Latency>) -> Self {
        Self {
            when,
            latency,
            min_attempt: Duration::ZERO,
            budget: RetryBudget::new(RetryBudgetOptions::permille(100).with_reserve(1)),
            classify: ByClassify,
        }
    }
}

impl<C> HedgeLayer<C> {
    /// Takes second attempts from this budget. By default they are at most 10 % of the calls of the
    /// last 10 s, and 10 besides.
    ///
    /// Not the budget of a retry layer: each call would be counted twice.
    #[must_use]
    pub fn with_budget(mut self, budget: RetryBudget) -> Self {
        self.budget = budget;
        self
    }

    /// Fills this `latency`, and goes by it if made for a percentile. One that others are told of,
    /// or that has another window.
    #[must_use]
    pub fn with_latency(mut self, latency: Latency) -> Self {
        self.latency = Some(latency);
        self
    }

    /// Sends no second attempt if less than `needed` of the call's deadline is left. Zero by
    /// default: something must be left, and the percentile, if that is what the layer goes by.
    #[must_use]
    pub fn with_min_attempt(mut self, needed: Duration) -> Self {
        self.min_attempt = needed;
        self
    }

    /// Reads the kind of an error with `kind`, for errors that do not implement
    /// [`Classify`](crate::Classify).
    #[must_use]
    pub fn classify<E, F>(self, kind: F) -> HedgeLayer<ByFn<F>>
    where
        F: Fn(&E) -> ErrorKind,
    {
        HedgeLayer {
            when: self.when,
            latency: self.latency,
            min_attempt: self.min_attempt,
            budget: self.budget,
            classify: ByFn(kind),
        }
    }

    /// What the layer has learnt; `None` if it goes by a fixed time and was given none to fill.
    pub const fn latency(&self) -> Option<&Latency> {
        self.latency.as_ref()
    }
}

impl<S, C: Clone> Layer<S> for HedgeLayer<C> {
    type Service = Hedge<S, C>;

    fn layer(&self, inner: S) -> Hedge<S, C> {
        Hedge {
            inner,
            config: self.clone(),
        }
    }
}

/// Sends a second attempt beside a slow one; see [`HedgeLayer`].
#[derive(Clone, Debug)]
pub struct Hedge<S, C = ByClassify> {
    inner: S,
    config: HedgeLayer<C>,
}

impl<S> Hedge<S> {
    /// A second attempt at `inner` when the share `percentile` of the first would have been
    /// answered.
    #[must_use]
    pub fn new(inner: S, percentile: Percentile) -> Self {
        HedgeLayer::percentile(percentile).layer(inner)
    }
}

impl<S, C> Hedge<S, C> {
    inner_service_accessors!();
}

impl<S, C, R> Service<R> for Hedge<S, C>
where
    S: Service<R, Error: 'static> + Clone,
    R: Carrier + Clone,
    C: Classifier<S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = HedgeFuture<S, C, R>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: R) -> Self::Future {
        let HedgeLayer {
            when,
            latency,
            min_attempt,
            budget,
            classify,
        } = &self.config;
        budget.deposit();
        // Before it is cloned, so that both attempts have the same.
        let context = request.context_mut();
        context.id();
        let record = context.open_record().clone();
        let (delay, needed) = when.delay(latency.as_ref());
        let terms = HedgeTerms {
            call: context.clone(),
            needed: needed.max(*min_attempt),
            budget: budget.clone(),
        };
        let planned = delay.filter(|delay| terms.leave_time_after(*delay));
        let planned = planned.map(|delay| {
            let mut request = request.clone();
            let context = request.context_mut();
            context.attempt = context.attempt.saturating_add(1);
            SecondAttempt {
                delay,
                service: self.inner.clone(),
                request,
            }
        });
        HedgeFuture {
            first: ReadyCall::start(&mut self.inner, request),
            second: ReadyCall::Gone,
            timer: None,
            planned,
            second_progress: Progress::none(),
            reservation: None,
            terms,
            stopwatch: Stopwatch::new(latency.clone(), delay),
            classify: classify.clone(),
            record: ReportOnDrop(Some(record)),
        }
    }
}
