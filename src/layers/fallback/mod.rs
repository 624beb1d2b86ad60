//! [`FallbackLayer`]: an answer all the same, from something else.

mod chain;
mod future;
mod service;
#[cfg(feature = "stale")]
mod stale;
mod strategy;

use std::time::Duration;

#[cfg(feature = "stale")]
pub use self::stale::{Stale, StalePrediction, StaleValue, Staleness};
pub use self::{
    chain::FallbackChain,
    future::FallbackFuture,
    service::Fallback,
    strategy::{FallbackFn, FallbackService, FallbackStrategy, Value},
};
use super::classify::{ByClassify, ByFn, Kinds};
use crate::error::ErrorKind;

/// A call that failed is answered by a value, a closure or a second service, such as a cheaper
/// model or a shorter program, by the last good answer, or by the first of these that can.
///
/// ```
/// use std::time::Duration;
/// use serde_json::json;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_dspy::{Deadline, Error, FallbackLayer, PredictRequest, Prediction};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Error> {
/// let thorough = service_fn(|_: PredictRequest| async {
///     std::future::pending::<Result<Prediction, Error>>().await
/// });
/// let quick = service_fn(|_: PredictRequest| async {
///     Ok::<_, Error>(Prediction::new([("answer".into(), json!("42"))].into_iter().collect()))
/// });
/// let program = ServiceBuilder::new()
///     .layer(FallbackLayer::service(quick).with_reserve(Duration::from_secs(2)))
///     .service(thorough);
///
/// // Stopped after 8 s, so that the fallback has 2 s.
/// let request = PredictRequest::new(json!({"question": "..."}))
///     .with_deadline(Deadline::within(Duration::from_secs(10)));
/// let answer = program.oneshot(request).await?;
/// assert_eq!(answer.get("answer"), Some(&json!("42")));
/// # Ok(())
/// # }
/// ```
///
/// # When it answers
/// On any failure but [`ErrorKind::Cancelled`] and [`ErrorKind::ShuttingDown`], for nobody waits
/// any more, [`ErrorKind::InvalidInput`], for wrong inputs stay wrong, and
/// [`ErrorKind::BudgetExceeded`], for a second service would spend more;
/// [`on_kinds`](FallbackLayer::on_kinds) names others, as for a value that costs nothing. Never when the call itself was cancelled.
/// A second service is not called, and the first's error is returned, once the call's deadline has
/// passed; a value or a closure still answers if the fallback is outside the deadline layer.
///
/// If the fallback fails too, the caller gets the *fallback's* error: it is the last that happened,
/// and a closure that wants the first to be seen returns it. The kind of the first is logged (at
/// debug level).
///
/// # A chain of fallbacks
/// [`or`](FallbackLayer::or) adds another fallback behind the first. The last good answer is
/// `Stale`, with the feature `stale`; it says how old it is.
///
/// ```
/// use std::time::Duration;
/// use serde_json::json;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_dspy::{Error, FallbackLayer, LmError, PredictRequest, Prediction};
/// use tower_dspy::layers::{Stale, Value};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Error> {
/// let down = || Err::<Prediction, _>(Error::from(LmError::new("LMServerError", "down", Some(503), None)));
/// let large = service_fn(move |_: PredictRequest| std::future::ready(down()));
/// let small = service_fn(move |_: PredictRequest| std::future::ready(down()));
/// let sorry = Prediction::new([("answer".into(), json!("no idea"))].into_iter().collect());
///
/// let fallback = FallbackLayer::service(small)                     // another model,
///     .or(Stale::predictions(Duration::from_secs(3600)))           // else an earlier answer,
///     .or(Value::new(sorry));                                      // else this.
/// let program = ServiceBuilder::new().layer(fallback).service(large);
///
/// let answer = program.oneshot(PredictRequest::new(json!({"question": "..."}))).await?;
/// assert_eq!(answer.get("answer"), Some(&json!("no idea")));
/// # Ok(())
/// # }
/// ```
///
/// # The reserve
/// A fallback that is asked when the deadline has passed comes too late. With
/// [`with_reserve`](FallbackLayer::with_reserve) the first service gets an earlier deadline, which
/// this layer enforces: the first is dropped, as by a timeout, and the fallback gets the original
/// deadline. At most half of what is left is kept back.
///
/// # The work of the first service
/// The call has failed, but its work may go on: clean-up code in Python, a thread that cannot be
/// stopped at once. By default the fallback is asked all the same. With
/// [`after_settled`](FallbackLayer::after_settled) it is asked when that work has ended.
///
/// # What it demands of the inner service
/// `Clone`, and an error that can be made from [`Elapsed`](crate::Elapsed) and implements
/// [`Classify`](crate::Classify), unless the layer is given [a function](FallbackLayer::classify).
/// The request is a [`Carrier`](crate::Carrier), and `Clone` unless the fallback is a value. The answer
/// of a fallback is a boxed future, so what it takes is `Send` and `'static`.
///
/// The service is always ready: a call whose service is not ready yet takes it along, waits for it
/// under the reserve's limit, and leaves a clone in its place, because a service that is stuck must
/// not keep the fallback from answering. So what answers for readiness, such as a load shed, belongs
/// inside.
///
/// # Where it belongs
/// Inside the deadline and outside of retry: a fallback is for when retries are over.
///
/// # How it differs from tower's layers
/// tower has no fallback. Compared with `ServiceExt::or_else`, the fallback sees the request, has
/// time left, and is not asked for calls that nobody wants.
///
/// # Panics
/// With a reserve, the future panics if it has to wait outside a tokio runtime with its timer
/// enabled.
///
/// # Cancel safety
/// Dropping the response future drops whichever of the two is at work.
#[derive(Clone, Debug)]
pub struct FallbackLayer<A, C = ByClassify> {
    strategy: A,
    kinds: Kinds,
    reserve: Duration,
    after_settled: bool,
    classify: C,
}

impl<A> FallbackLayer<A> {
    /// Falls back to `strategy`.
    #[must_use]
    pub const fn new(strategy: A) -> Self {
        Self {
            strategy,
            kinds: Kinds::all_but(&[
                ErrorKind::Cancelled,
                ErrorKind::ShuttingDown,
                ErrorKind::InvalidInput,
                ErrorKind::BudgetExceeded,
            ]),
            reserve: Duration::ZERO,
            after_settled: false,
            classify: ByClassify,
        }
    }
}

impl<T> FallbackLayer<Value<T>> {
    /// Falls back to clones of `value`.
    #[must_use]
    pub fn value(value: T) -> Self {
        Self::new(Value::new(value))
    }
}

impl<F> FallbackLayer<FallbackFn<F>> {
    /// Falls back to the answer of `f`, which gets the error and the original request.
    ///
    /// ```
    /// use tower_dspy::{Error, FallbackLayer, PredictRequest, Prediction};
    ///
    /// let layer = FallbackLayer::with(|error: Error, request: PredictRequest| async move {
    ///     match request.inputs().get("draft") {
    ///         Some(draft) => {
    ///             let answer = [("answer".to_owned(), draft.clone())];
    ///             Ok(Prediction::new(answer.into_iter().collect()))
    ///         }
    ///         None => Err(error),
    ///     }
    /// });
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn with<E, R, T, Fut>(f: F) -> Self
    where
        F: Fn(E, R) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        Self::new(FallbackFn::new(f))
    }
}

impl<S> FallbackLayer<FallbackService<S>> {
    /// Falls back to the answer of `service`, under the call's deadline.
    #[must_use]
    pub const fn service(service: S) -> Self {
        Self::new(FallbackService::new(service))
    }
}

#[cfg(feature = "stale")]
impl FallbackLayer<StalePrediction> {
    /// Falls back to the last good answer to the same inputs, if it is no older than `max_age`.
    #[must_use]
    pub fn stale(max_age: Duration) -> Self {
        Self::new(Stale::predictions(max_age))
    }
}

impl<A, C> FallbackLayer<A, C> {
    /// Falls back to `next` where the fallback so far fails too, whatever with, unless the call has
    /// been cancelled.
    ///
    /// The kinds of [`on_kinds`](Self::on_kinds) are those of the service's own failures: they say
    /// whether there is a fallback at all. The reserve is for the whole chain.
    #[must_use]
    pub fn or<B>(self, next: B) -> FallbackLayer<FallbackChain<A, B>, C> {
        FallbackLayer {
            strategy: FallbackChain::new(self.strategy, next),
            kinds: self.kinds,
            reserve: self.reserve,
            after_settled: self.after_settled,
            classify: self.classify,
        }
    }

    /// Answers failures of these kinds, and no others.
    #[must_use]
    pub fn on_kinds(mut self, kinds: impl IntoIterator<Item = ErrorKind>) -> Self {
        self.kinds = kinds.into_iter().collect();
        self
    }

    /// Keeps `reserve` of the call's deadline for the fallback, but at most half of what is left
    /// when the call comes. Zero, the default, keeps nothing; neither does a call without a
    /// deadline.
    #[must_use]
    pub fn with_reserve(mut self, reserve: Duration) -> Self {
        self.reserve = reserve;
        self
    }

    /// Asks the fallback when the work of the failed call has ended, with its clean-up code: a
    /// fallback of the same program, or for the same resource, does not run beside it.
    ///
    /// The wait ends with the call's deadline, from when on a second service is not called and the
    /// first's error is returned; without a deadline it lasts as long as the work. If the call is
    /// cancelled meanwhile, the first's error is returned at once. Only the work of a host is waited
    /// for, in this process or its workers, as by [`Cancel::settled`](crate::Cancel::settled): other
    /// services have ended with their futures, and a client of another node does not see the work
    /// there. This costs a [`Cancel`](crate::Cancel) node a call.
    ///
    /// ```
    /// use std::time::Duration;
    /// use serde_json::json;
    /// use tokio::time::Instant;
    /// use tower::{ServiceBuilder, ServiceExt};
    /// use tower_dspy::{Error, FallbackLayer, PredictRequest, TimeoutLayer};
    /// use tower_dspy::testing::mock::{MockDspy, Reply};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Error> {
    /// // Its clean-up code takes two seconds.
    /// let thorough = MockDspy::new([Reply::hang().lingers(Duration::from_secs(2))]);
    /// let quick = MockDspy::new([Reply::answer(json!({"answer": "42"}))]);
    /// let stack = ServiceBuilder::new()
    ///     .layer(FallbackLayer::service(quick).after_settled())
    ///     .layer(TimeoutLayer::new(Duration::from_secs(4)))
    ///     .service(thorough);
    ///
    /// let start = Instant::now();
    /// stack.oneshot(PredictRequest::new(json!({"question": "..."}))).await?;
    /// assert_eq!(start.elapsed(), Duration::from_secs(6));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn after_settled(self) -> Self {
        self.set_after_settled(true)
    }

    pub(crate) fn set_after_settled(mut self, waits: bool) -> Self {
        self.after_settled = waits;
        self
    }

    /// Reads the kind of an error with `kind`, for errors that do not implement
    /// [`Classify`](crate::Classify).
    #[must_use]
    pub fn classify<E, F>(self, kind: F) -> FallbackLayer<A, ByFn<F>>
    where
        F: Fn(&E) -> ErrorKind,
    {
        FallbackLayer {
            strategy: self.strategy,
            kinds: self.kinds,
            reserve: self.reserve,
            after_settled: self.after_settled,
            classify: ByFn(kind),
        }
    }
}
