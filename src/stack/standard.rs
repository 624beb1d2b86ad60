//! [`StandardStack`]: the layers in their order.

use tower::{Layer, ServiceBuilder, layer::util::Identity, util::Either};

use super::{
    budget::CallBudgetConfig,
    check::ConfigError,
    config::StackConfig,
    parts::{FallbackConfig, HedgeConfig},
    retry::RetryConfig,
};
use crate::{
    call::BudgetLimits,
    layers::{
        BudgetLayer, BudgetService, CancelLayer, CancelService, DeadlineLayer, DeadlineService,
        FallbackLayer, Hedge, HedgeLayer, Retry, RetryLayer, Shutdown, ShutdownLayer,
        ShutdownService, Timeout, TimeoutLayer, Track, TrackLayer, Tracker, budget::EachCall,
    },
};

/// Every control of a call in one layer, in the standard order.
///
/// Outermost first: shutdown, track, deadline, cancel, budget, fallback, retry, hedge, attempt timeout.
/// A new one has the limits and retries of [`StackConfig::default`]; shutdown, a tracker, a budget, a
/// fallback and hedging are there when they are given. What is left out costs a branch, and no allocation.
///
/// ```
/// use std::time::Duration;
/// use serde_json::json;
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_dspy::{Error, FallbackLayer, PredictRequest, Prediction, Shutdown, StandardStack, Tracker};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Error> {
/// let sorry = Prediction::new([("answer".into(), json!("no idea"))].into_iter().collect());
/// let (shutdown, tracker) = (Shutdown::new(), Tracker::new());
/// let stack = StandardStack::new()
///     .with_shutdown(shutdown.clone())
///     .with_tracker(tracker.clone())
///     .with_fallback(FallbackLayer::value(sorry).with_reserve(Duration::from_secs(1)));
/// let program = ServiceBuilder::new()
///     .layer(stack)
///     .service_fn(|_: PredictRequest| std::future::pending::<Result<Prediction, Error>>());
///
/// // Attempts of 10 s, one after the other; after 29 of the 30 s, the fallback.
/// let start = tokio::time::Instant::now();
/// let answer = program.oneshot(PredictRequest::new(json!({"question": "..."}))).await?;
/// assert_eq!(answer.get("answer"), Some(&json!("no idea")));
/// assert_eq!(start.elapsed(), Duration::from_secs(29));
/// assert_eq!(tracker.counts().completed, 1);
/// # Ok(())
/// # }
/// ```
///
/// # What it demands of the inner service
/// What its layers do, whether they are there or not: `Clone`; an error that can be made from
/// [`Elapsed`](crate::Elapsed) and [`Cancelled`](crate::Cancelled) and implements
/// [`Classify`](crate::Classify), as [`Error`](crate::Error) and [`BoxError`](tower::BoxError) do;
/// and a request that is a [`Carrier`](crate::Carrier) and `Clone`. All of them, and the futures, are
/// `Send` and `'static`: a call whose first attempt has failed goes on in a boxed future. What limits the service itself,
/// such as `max_in_flight`, tower's `ConcurrencyLimit` and `LoadShed`, belongs inside. What turns
/// errors into responses of a protocol belongs outside.
///
/// # How it differs from a `ServiceBuilder`
/// It is one, with the order settled. Clones, and the services that one stack makes, share the
/// budgets of its retries and hedges. For another order, write it out: see
/// [`DspyServiceBuilderExt`](crate::DspyServiceBuilderExt).
#[derive(Clone, Debug)]
pub struct StandardStack<F = Identity> {
    shutdown: Option<ShutdownLayer>,
    track: Option<TrackLayer>,
    deadline: DeadlineLayer,
    cancel: CancelLayer,
    budget: BudgetLayer<Option<EachCall>>,
    fallback: F,
    /// What the configuration says of a fallback that is still to come.
    fallback_config: FallbackConfig,
    retry: Option<RetryLayer>,
    hedge: Option<HedgeLayer>,
    attempt: Option<TimeoutLayer>,
}

/// A service in a [`StandardStack`] with the fallback `F`.
pub type StandardService<S, F = Identity> = Perhaps<ShutdownService<Shown<S, F>>, Shown<S, F>>;

/// A layer's service, or what is inside it where the layer is left out.
type Perhaps<A, B> = Either<A, B>;
type Shown<S, F> = Perhaps<Track<Ended<S, F>>, Ended<S, F>>;
type Ended<S, F> = DeadlineService<CancelService<Charged<S, F>>>;
type Charged<S, F> = BudgetService<<F as Layer<Attempts<S>>>::Service, Option<EachCall>>;
type Attempts<S> = Perhaps<Retry<Doubled<S>>, Doubled<S>>;
type Doubled<S> = Perhaps<Hedge<Limited<S>>, Limited<S>>;
type Limited<S> = Perhaps<Timeout<S>, S>;

impl<S, F> Layer<S> for StandardStack<F>
where
    F: Layer<Attempts<S>>,
{
    type Service = StandardService<S, F>;

    fn layer(&self, service: S) -> Self::Service {
        ServiceBuilder::new()
            // Around all that a call may wait for, so that a drain misses none.
            .option_layer(self.shutdown.clone())
            // Around all that makes a call end, so that it sees each end, refusals inside included.
            .option_layer(self.track.clone())
            // Around the wait for readiness, the retries and their backoff: all of it is the call.
            .layer(&self.deadline)
            // Around retry, or a cancel in a backoff would be seen only after it; inside the
            // deadline, whose grace it leaves alone.
            .layer(&self.cancel)
            // Around all that may make LM calls for the call: its attempts and its fallback.
            .layer(&self.budget)
            // Around retry: when its attempts are used up. Inside the deadline, which it divides.
            .layer(&self.fallback)
            // Around the limit of an attempt, so that each has its own.
            .option_layer(self.retry.clone())
            // Inside retry, which then sees one attempt that is seldom slow.
            .option_layer(self.hedge.clone())
            // Innermost: each attempt, a hedge too, from when the service takes it.
            .option_layer(self.attempt)
            .service(service)
    }
}

impl StandardStack {
    /// The stack of [`StackConfig::default`].
    #[must_use]
    pub fn new() -> Self {
        Self::of(&StackConfig::default())
    }

    /// The stack of a configuration that has been checked.
    fn of(config: &StackConfig) -> Self {
        let deadline = match config.deadline {
            Some(limit) => DeadlineLayer::new(limit),
            None => DeadlineLayer::from_context(),
        };
        Self {
            shutdown: None,
            track: None,
            deadline: deadline
                .with_reserve(config.reserve)
                .with_grace(config.grace),
            cancel: CancelLayer::new().with_grace(config.grace),
            budget: budget(config.budget.as_ref().map(CallBudgetConfig::limits)),
            fallback: Identity::new(),
            fallback_config: config.fallback.clone(),
            retry: config.retry.as_ref().map(RetryConfig::build),
            hedge: config.hedge.as_ref().map(HedgeConfig::build),
            attempt: config
                .attempt_timeout
                .map(|limit| TimeoutLayer::new(limit).with_grace(config.grace)),
        }
    }
}

impl Default for StandardStack {
    fn default() -> Self {
        Self::new()
    }
}

impl<F> StandardStack<F> {
    /// Lets calls through until `shutdown` begins, and ends those in flight then.
    #[must_use]
    pub fn with_shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = Some(ShutdownLayer::new(shutdown));
        self
    }

    /// Shows each call in `tracker`; for a label, see [`with_track`](Self::with_track).
    #[must_use]
    pub fn with_tracker(self, tracker: Tracker) -> Self {
        self.with_track(TrackLayer::new(tracker))
    }

    /// Shows each call as `layer` says.
    #[must_use]
    pub fn with_track(mut self, layer: impl Into<Option<TrackLayer>>) -> Self {
        self.track = layer.into();
        self
    }

    /// Limits the whole call by `layer`, in place of the configured one.
    #[must_use]
    pub fn with_deadline(mut self, layer: DeadlineLayer) -> Self {
        self.deadline = layer;
        self
    }

    /// Ends cancelled calls by `layer`, as by one with a token for all of them.
    #[must_use]
    pub fn with_cancel(mut self, layer: CancelLayer) -> Self {
        self.cancel = layer;
        self
    }

    /// Gives the LM calls of each call a budget with these limits; `None` sets none. For one that calls
    /// share, put a [`BudgetLayer`] around the stack.
    #[must_use]
    pub fn with_budget(mut self, limits: impl Into<Option<BudgetLimits>>) -> Self {
        self.budget = budget(limits.into());
        self
    }

    /// Answers calls that failed by `layer`. Where the configuration names kinds or a reserve, they
    /// hold in place of the layer's: whoever runs the service has the last word.
    #[must_use]
    pub fn with_fallback<A, C>(
        self,
        layer: FallbackLayer<A, C>,
    ) -> StandardStack<FallbackLayer<A, C>> {
        StandardStack {
            fallback: self.fallback_config.tune(layer),
            shutdown: self.shutdown,
            track: self.track,
            deadline: self.deadline,
            cancel: self.cancel,
            budget: self.budget,
            fallback_config: self.fallback_config,
            retry: self.retry,
            hedge: self.hedge,
            attempt: self.attempt,
        }
    }

    /// Retries by `layer`, as with a budget that several stacks share; `None` does not retry.
    #[must_use]
    pub fn with_retry(mut self, layer: impl Into<Option<RetryLayer>>) -> Self {
        self.retry = layer.into();
        self
    }

    /// Sends second attempts by `layer`; `None` sends none.
    #[must_use]
    pub fn with_hedge(mut self, layer: impl Into<Option<HedgeLayer>>) -> Self {
        self.hedge = layer.into();
        self
    }

    /// Limits each attempt by `layer`; `None` leaves it the deadline.
    #[must_use]
    pub fn with_attempt_timeout(mut self, layer: impl Into<Option<TimeoutLayer>>) -> Self {
        self.attempt = layer.into();
        self
    }
}

fn budget(limits: Option<BudgetLimits>) -> BudgetLayer<Option<EachCall>> {
    BudgetLayer::new(limits.map(EachCall::new))
}

impl StackConfig {
    /// The stack of this configuration, with budgets of its own.
    ///
    /// # Errors
    /// If a value is out of its range, or does not go with another.
    pub fn layer(&self) -> Result<StandardStack, ConfigError> {
        self.check()?;
        Ok(StandardStack::of(self))
    }
}
