//! The layers as methods of [`ServiceBuilder`].

use std::time::Duration;

use tower::{ServiceBuilder, layer::util::Stack};

use crate::layers::{
    CancelLayer, DeadlineLayer, FallbackLayer, RetryLayer, Shutdown, ShutdownLayer, TimeoutLayer,
    TrackLayer, Tracker,
    fallback::{Through, Value},
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
pub trait DspyServiceBuilderExt<L>: sealed::Sealed<L> + Sized {
    /// Lets calls through until `shutdown` begins, and ends those in flight: [`ShutdownLayer::new`].
    fn shutdown(self, shutdown: Shutdown) -> ServiceBuilder<Stack<ShutdownLayer, L>>;

    /// Shows each call in `tracker`, which can stop it: [`TrackLayer::new`].
    fn tracked(self, tracker: Tracker) -> ServiceBuilder<Stack<TrackLayer, L>>;

    /// Ends the whole call after `limit`: [`DeadlineLayer::new`].
    fn deadline(self, limit: Duration) -> ServiceBuilder<Stack<DeadlineLayer, L>>;

    /// Ends the call when it is cancelled: [`CancelLayer::new`].
    fn cancellable(self) -> ServiceBuilder<Stack<CancelLayer, L>>;

    /// Answers a call that failed with clones of `value`: [`FallbackLayer::value`].
    fn fallback_value<T>(self, value: T) -> ServiceBuilder<Stack<FallbackLayer<Value<T>>, L>>;

    /// Sends a call that failed to `service`: [`FallbackLayer::service`].
    fn fallback_service<S>(self, service: S)
    -> ServiceBuilder<Stack<FallbackLayer<Through<S>>, L>>;

    /// Tries again at most `retries` times: [`RetryLayer::new`].
    fn retries(self, retries: u32) -> ServiceBuilder<Stack<RetryLayer, L>>;

    /// Ends one attempt after `limit`: [`TimeoutLayer::new`].
    fn attempt_timeout(self, limit: Duration) -> ServiceBuilder<Stack<TimeoutLayer, L>>;
}

impl<L> DspyServiceBuilderExt<L> for ServiceBuilder<L> {
    fn shutdown(self, shutdown: Shutdown) -> ServiceBuilder<Stack<ShutdownLayer, L>> {
        self.layer(ShutdownLayer::new(shutdown))
    }

    fn tracked(self, tracker: Tracker) -> ServiceBuilder<Stack<TrackLayer, L>> {
        self.layer(TrackLayer::new(tracker))
    }

    fn deadline(self, limit: Duration) -> ServiceBuilder<Stack<DeadlineLayer, L>> {
        self.layer(DeadlineLayer::new(limit))
    }

    fn cancellable(self) -> ServiceBuilder<Stack<CancelLayer, L>> {
        self.layer(CancelLayer::new())
    }

    fn fallback_value<T>(self, value: T) -> ServiceBuilder<Stack<FallbackLayer<Value<T>>, L>> {
        self.layer(FallbackLayer::value(value))
    }

    fn fallback_service<S>(
        self,
        service: S,
    ) -> ServiceBuilder<Stack<FallbackLayer<Through<S>>, L>> {
        self.layer(FallbackLayer::service(service))
    }

    fn retries(self, retries: u32) -> ServiceBuilder<Stack<RetryLayer, L>> {
        self.layer(RetryLayer::new(retries))
    }

    fn attempt_timeout(self, limit: Duration) -> ServiceBuilder<Stack<TimeoutLayer, L>> {
        self.layer(TimeoutLayer::new(limit))
    }
}

mod sealed {
    pub trait Sealed<L> {}
    impl<L> Sealed<L> for tower::ServiceBuilder<L> {}
}
