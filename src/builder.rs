//! The layers as methods of [`ServiceBuilder`].

use std::time::Duration;

use tower::{ServiceBuilder, layer::util::Stack};

#[cfg(feature = "stale")]
use crate::layers::fallback::StalePrediction;
use crate::{
    call::BudgetLimits,
    layers::{
        AllotLayer, BudgetLayer, CancelLayer, DeadlineLayer, FallbackLayer, HedgeLayer, Latency,
        Percentile, RecordLatencyLayer, RetryLayer, Shutdown, ShutdownLayer, StreamTimeoutLayer,
        TimeoutLayer, TrackLayer, Tracker,
        budget::{EachCall, TenantBudgets},
        fallback::{FallbackFn, FallbackService, Value},
    },
    session::{Session, SessionLayer},
    stack::StandardStack,
};

/// Adds the layers of this crate to [`ServiceBuilder`], under names that leave its own free.
///
/// Each method is short for the layer it names, with its defaults; for options, use
/// [`ServiceBuilder::layer`]. In the order in which they belong, outermost first:
///
/// ```
/// use std::time::Duration;
/// use serde_json::json;
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_dspy::{DspyServiceBuilderExt, Error, PredictRequest, Prediction, Shutdown, Tracker};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Error> {
/// let sorry = Prediction::new([("answer".to_owned(), json!("no idea"))].into_iter().collect());
/// let (shutdown, tracker) = (Shutdown::new(), Tracker::new());
/// let program = ServiceBuilder::new()
///     .shutdown(shutdown.clone())
///     .tracked(tracker.clone())
///     .deadline(Duration::from_secs(10))
///     .cancellable()
///     .fallback_value(sorry)
///     .retries(1)
///     .attempt_timeout(Duration::from_secs(4))
///     .service_fn(|_: PredictRequest| async {
///         tokio::time::sleep(Duration::from_secs(60)).await;
///         Ok::<_, Error>(Prediction::new(Default::default()))
///     });
///
/// let answer = program.oneshot(PredictRequest::new(json!({"question": "..."}))).await?;
/// assert_eq!(answer.get("answer"), Some(&json!("no idea")));
/// assert_eq!(tracker.counts().completed, 1);
/// assert_eq!(shutdown.in_flight(), 0);
/// # Ok(())
/// # }
/// ```
///
/// `ServiceBuilder`'s own `timeout` and `retry` are tower's, and stay what they are.
pub trait DspyServiceBuilderExt<L>: sealed::Sealed + Into<ServiceBuilder<L>> {
    /// Puts all of the standard layers here, in their order.
    fn standard_stack<F>(
        self,
        stack: StandardStack<F>,
    ) -> ServiceBuilder<Stack<StandardStack<F>, L>> {
        self.into().layer(stack)
    }

    /// Lets calls through until `shutdown` begins, and ends those in flight: [`ShutdownLayer::new`].
    fn shutdown(self, shutdown: Shutdown) -> ServiceBuilder<Stack<ShutdownLayer, L>> {
        self.into().layer(ShutdownLayer::new(shutdown))
    }

    /// Shows each call in `tracker`, which can stop it: [`TrackLayer::new`].
    fn tracked(self, tracker: Tracker) -> ServiceBuilder<Stack<TrackLayer, L>> {
        self.into().layer(TrackLayer::new(tracker))
    }

    /// Puts each call into `session`: [`SessionLayer::new`].
    fn session(self, session: Session) -> ServiceBuilder<Stack<SessionLayer, L>> {
        self.into().layer(SessionLayer::new(session))
    }

    /// Ends the whole call after `limit`: [`DeadlineLayer::new`].
    fn deadline(self, limit: Duration) -> ServiceBuilder<Stack<DeadlineLayer, L>> {
        self.into().layer(DeadlineLayer::new(limit))
    }

    /// Ends the call at the deadline that it comes with: [`DeadlineLayer::from_context`].
    fn deadline_from_context(self) -> ServiceBuilder<Stack<DeadlineLayer, L>> {
        self.into().layer(DeadlineLayer::from_context())
    }

    /// Ends the call when it is cancelled: [`CancelLayer::new`].
    fn cancellable(self) -> ServiceBuilder<Stack<CancelLayer, L>> {
        self.into().layer(CancelLayer::new())
    }

    /// Gives the LM calls of each call a budget: [`BudgetLayer::each`].
    fn call_budget(self, limits: BudgetLimits) -> ServiceBuilder<Stack<BudgetLayer<EachCall>, L>> {
        self.into().layer(BudgetLayer::each(limits))
    }

    /// Gives the LM calls of each tenant a budget: [`BudgetLayer::per_tenant`].
    fn tenant_budgets(
        self,
        limits: BudgetLimits,
    ) -> ServiceBuilder<Stack<BudgetLayer<TenantBudgets>, L>> {
        self.into().layer(BudgetLayer::per_tenant(limits))
    }

    /// Answers a call that failed with clones of `value`: [`FallbackLayer::value`].
    fn fallback_value<T>(self, value: T) -> ServiceBuilder<Stack<FallbackLayer<Value<T>>, L>> {
        self.into().layer(FallbackLayer::value(value))
    }

    /// Answers a call that failed with what `f` makes of the error and the request:
    /// [`FallbackLayer::with`].
    fn fallback_with<F, E, R, T, Fut>(
        self,
        f: F,
    ) -> ServiceBuilder<Stack<FallbackLayer<FallbackFn<F>>, L>>
    where
        F: Fn(E, R) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.into().layer(FallbackLayer::with(f))
    }

    /// Sends a call that failed to `service`: [`FallbackLayer::service`].
    fn fallback_service<S>(
        self,
        service: S,
    ) -> ServiceBuilder<Stack<FallbackLayer<FallbackService<S>>, L>> {
        self.into().layer(FallbackLayer::service(service))
    }

    /// Answers a call that failed with the last good answer to the same inputs, up to `max_age` old:
    /// [`FallbackLayer::stale`].
    #[cfg(feature = "stale")]
    fn fallback_stale(
        self,
        max_age: Duration,
    ) -> ServiceBuilder<Stack<FallbackLayer<StalePrediction>, L>> {
        self.into().layer(FallbackLayer::stale(max_age))
    }

    /// Tries again at most `retries` times: [`RetryLayer::new`].
    fn retries(self, retries: u32) -> ServiceBuilder<Stack<RetryLayer, L>> {
        self.into().layer(RetryLayer::new(retries))
    }

    /// Sends a second attempt where the first is slower than the share `percentile` of them:
    /// [`HedgeLayer::percentile`].
    fn hedge(self, percentile: Percentile) -> ServiceBuilder<Stack<HedgeLayer, L>> {
        self.into().layer(HedgeLayer::percentile(percentile))
    }

    /// Sends a second attempt after `delay`: [`HedgeLayer::after`].
    fn hedge_after(self, delay: Duration) -> ServiceBuilder<Stack<HedgeLayer, L>> {
        self.into().layer(HedgeLayer::after(delay))
    }

    /// Gives the call an equal share of the time left for one of `steps`: [`AllotLayer::even`].
    fn allot_even(self, steps: u32) -> ServiceBuilder<Stack<AllotLayer, L>> {
        self.into().layer(AllotLayer::even(steps))
    }

    /// Gives the call the time left but for `reserve`: [`AllotLayer::all_but`].
    fn allot_all_but(self, reserve: Duration) -> ServiceBuilder<Stack<AllotLayer, L>> {
        self.into().layer(AllotLayer::all_but(reserve))
    }

    /// Ends one attempt after `limit`: [`TimeoutLayer::new`].
    fn attempt_timeout(self, limit: Duration) -> ServiceBuilder<Stack<TimeoutLayer, L>> {
        self.into().layer(TimeoutLayer::new(limit))
    }

    /// Limits a streamed answer: until its first event, between two, and to its end.
    fn stream_timeout(
        self,
        layer: StreamTimeoutLayer,
    ) -> ServiceBuilder<Stack<StreamTimeoutLayer, L>> {
        self.into().layer(layer)
    }

    /// Fills `latency`, of which `percentile` will be asked: [`RecordLatencyLayer::new`].
    fn record_latency(
        self,
        latency: Latency,
        percentile: Percentile,
    ) -> ServiceBuilder<Stack<RecordLatencyLayer, L>> {
        self.into()
            .layer(RecordLatencyLayer::new(latency, percentile))
    }
}

impl<L> DspyServiceBuilderExt<L> for ServiceBuilder<L> {}

mod sealed {
    pub trait Sealed {}

    impl<L> Sealed for tower::ServiceBuilder<L> {}
}
