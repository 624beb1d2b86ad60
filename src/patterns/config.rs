//! [`TimeoutConfig`]: the limits of a kind of operation.

use std::time::Duration;

use futures_util::FutureExt;
use tower::layer::util::Stack;

use super::{
    DeadlineExecutor,
    outcome::{Outcome, TimeoutResult},
    retry::attempts,
};
use crate::{
    error::ErrorKind,
    layers::{Backoff, DeadlineLayer, RetryBudget, RetryLayer, TimeoutLayer},
};

/// The limits of a kind of operation: of one request, of the session around it, and how often one
/// that was too slow is tried again.
///
/// A new configuration limits nothing and never retries.
///
/// ```
/// use std::time::Duration;
/// use tower_dspy::{Backoff, patterns::{TimeoutConfig, TimeoutError}};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let config = TimeoutConfig::new()
///     .with_request_timeout(Duration::from_secs(30))
///     .with_session_timeout(Duration::from_secs(300))
///     .with_max_retries(3)
///     .with_backoff(Backoff::exponential(Duration::from_secs(1), Duration::from_secs(10)));
///
/// let answer = config.execute_with_timeout(async { Ok::<_, std::io::Error>("Paris") }).await;
/// assert_eq!(answer.unwrap(), "Paris");
///
/// let never = || std::future::pending::<Result<(), std::io::Error>>();
/// let result = config.execute_with_retry(never).await;
/// assert!(matches!(result, Err(TimeoutError::Elapsed(_))));
/// # }
/// ```
///
/// # A session of many requests
/// Each call of this type's methods is a session by itself: its attempts share the session limit.
/// For many requests under one limit, [`executor`](Self::executor) begins a session:
///
/// ```
/// use std::time::Duration;
/// use tower_dspy::patterns::TimeoutConfig;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let session = TimeoutConfig::new()
///     .with_session_timeout(Duration::from_secs(60))
///     .executor();
/// for request in 0..10 {
///     let answer = session.execute_with_timeout(Duration::from_secs(5), async move {
///         tokio::time::sleep(Duration::from_secs(3)).await;
///         Ok::<_, std::io::Error>(request)
///     });
///     assert_eq!(answer.await.unwrap(), request);
/// }
/// assert_eq!(session.remaining(), Duration::from_secs(30));
/// # }
/// ```
///
/// # Limits by kind of operation
/// A table of them is a function from a kind of your own:
///
/// ```
/// use std::time::Duration;
/// use tower_dspy::patterns::TimeoutConfig;
///
/// #[derive(Clone, Copy)]
/// enum Kind { Lookup, Inference, Batch }
///
/// impl Kind {
///     fn limits(self) -> TimeoutConfig {
///         let (seconds, retries) = match self {
///             Kind::Lookup => (5, 2),
///             Kind::Inference => (30, 1),
///             Kind::Batch => (120, 0),
///         };
///         TimeoutConfig::new()
///             .with_request_timeout(Duration::from_secs(seconds))
///             .with_max_retries(retries)
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let answer = Kind::Lookup.limits().execute_with_timeout(async { 42 }).await;
/// assert_eq!(answer, Ok(42));
/// # assert_eq!(Kind::Inference.limits().request_timeout(), Some(Duration::from_secs(30)));
/// # assert_eq!(Kind::Batch.limits().request_timeout(), Some(Duration::from_secs(120)));
/// # for (kind, seconds) in [(Kind::Inference, 30), (Kind::Batch, 120)] {
/// #     let never = std::future::pending::<Result<(), std::io::Error>>();
/// #     let error = kind.limits().execute_with_timeout(never).await.unwrap_err();
/// #     assert_eq!(error.elapsed().unwrap().limit(), Duration::from_secs(seconds));
/// # }
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct TimeoutConfig {
    request: Option<Duration>,
    session: Option<Duration>,
    retries: u32,
    backoff: Backoff,
    budget: RetryBudget,
}

impl TimeoutConfig {
    /// No limits, and no retries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops a request, or one attempt at it, after `limit`.
    #[must_use]
    pub fn with_request_timeout(mut self, limit: Duration) -> Self {
        self.request = Some(limit);
        self
    }

    /// Stops all of a session after `limit`, a request with its retries included.
    #[must_use]
    pub fn with_session_timeout(mut self, limit: Duration) -> Self {
        self.session = Some(limit);
        self
    }

    /// Tries at most `retries` times more where a request was too slow.
    #[must_use]
    pub fn with_max_retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Waits like this before each retry; by default exponentially from 100 ms to 10 s, with full
    /// jitter.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Takes retries from this budget, in place of a default one that is this configuration's own
    /// and that its clones share.
    #[must_use]
    pub fn with_retry_budget(mut self, budget: RetryBudget) -> Self {
        self.budget = budget;
        self
    }

    /// The limit of one request.
    #[must_use]
    pub const fn request_timeout(&self) -> Option<Duration> {
        self.request
    }

    /// The limit of a session.
    #[must_use]
    pub const fn session_timeout(&self) -> Option<Duration> {
        self.session
    }

    /// How often a request that was too slow is tried again.
    #[must_use]
    pub const fn max_retries(&self) -> u32 {
        self.retries
    }

    /// Runs one operation, once, under the request's limit and the session's.
    ///
    /// # Errors
    /// [`TimeoutError::Elapsed`](super::TimeoutError::Elapsed) at the request's limit;
    /// [`TimeoutError::Deadline`](super::TimeoutError::Deadline) at the session's, if that is no
    /// later; [`TimeoutError::Failed`](super::TimeoutError::Failed) with the operation's own error.
    ///
    /// # Cancel safety
    /// Dropping the future drops the operation.
    pub fn execute_with_timeout<F>(
        &self,
        operation: F,
    ) -> impl Future<Output = TimeoutResult<F::Output>> + use<F>
    where
        F: IntoFuture<Output: Outcome>,
    {
        let config = self.clone();
        let operation = operation.into_future();
        async move {
            let limit = config.request.unwrap_or(Duration::MAX);
            let session = config.executor();
            session.execute_with_timeout(limit, operation).await
        }
        .fuse()
    }

    /// Runs an operation again, after the backoff, as long as it is too slow: at most
    /// [`with_max_retries`](Self::with_max_retries) times, and only if the session's limit leaves time after
    /// the backoff.
    ///
    /// `operation` makes the future of each attempt. An operation that fails by itself is not tried
    /// again: [`RetryLayer`] does that, by the kind of the error.
    ///
    /// # Errors
    /// As with [`execute_with_timeout`](Self::execute_with_timeout), of the last attempt.
    ///
    /// # Cancel safety
    /// Dropping the future drops the attempt that runs, and no further one starts.
    pub fn execute_with_retry<M, F>(
        &self,
        operation: M,
    ) -> impl Future<Output = TimeoutResult<F::Output>> + use<M, F>
    where
        M: FnMut() -> F,
        F: IntoFuture<Output: Outcome>,
    {
        let config = self.clone();
        async move {
            let limit = config.request.unwrap_or(Duration::MAX);
            attempts(operation, limit, config.executor(), config.retry()).await
        }
    }

    /// Begins a session: operations under one deadline, the
    /// [session's limit](Self::with_session_timeout) from now. Without one, nothing but cancellation ends it.
    #[must_use]
    pub fn executor(&self) -> DeadlineExecutor {
        DeadlineExecutor::within(self.session.unwrap_or(Duration::MAX))
    }

    /// The same for a service: [`DeadlineLayer`] around [`RetryLayer`] around [`TimeoutLayer`].
    ///
    /// The session's limit is that of a call with its retries, and the error is the service's own.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_dspy::{Error, PredictRequest, Prediction, patterns::TimeoutConfig};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let config = TimeoutConfig::new().with_request_timeout(Duration::from_secs(5));
    /// let program = config.layer().layer(service_fn(|_: PredictRequest| {
    ///     std::future::pending::<Result<Prediction, Error>>()
    /// }));
    /// let result = program.oneshot(PredictRequest::new(serde_json::json!({}))).await;
    /// assert!(matches!(result, Err(Error::Elapsed(_))));
    /// # }
    /// ```
    #[must_use]
    pub fn layer(&self) -> Stack<TimeoutLayer, Stack<RetryLayer, DeadlineLayer>> {
        let deadline = match self.session {
            Some(limit) => DeadlineLayer::new(limit),
            None => DeadlineLayer::from_context(),
        };
        let retry = self.retry().on_kinds([ErrorKind::Elapsed]);
        let attempt = TimeoutLayer::new(self.request.unwrap_or(Duration::MAX));
        Stack::new(attempt, Stack::new(retry, deadline))
    }

    fn retry(&self) -> RetryLayer {
        RetryLayer::new(self.retries)
            .with_backoff(self.backoff)
            .with_budget(self.budget.clone())
    }
}
