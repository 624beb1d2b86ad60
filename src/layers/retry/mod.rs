//! [`RetryLayer`]: another attempt, while that makes sense.

mod backoff;
mod budget;
mod future;
mod policy;

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tower::{Layer, Service};

pub(super) use self::budget::Reservation;
pub use self::{
    backoff::{Backoff, BackoffKind},
    budget::{RetryBudget, RetryBudgetOptions},
    future::RetryFuture,
    policy::RetryPolicy,
};
use self::{future::LaterAttempts, policy::Rules};
use super::classify::{ByClassify, ByFn, Classifier, Kinds};
use crate::{
    call::{Carrier, drop_scope::ReportOnDrop},
    error::{ErrorKind, carries_costs},
};

/// Whether failures of this kind are left alone even where a layer is told to retry them.
pub(crate) const fn is_never_retried(kind: ErrorKind) -> bool {
    policy::NEVER.contains(kind)
}

/// An attempt that failed in a way that another may not, by default because it took too long or
/// the LM was unavailable, is followed by another: after a [`Backoff`], under a [`RetryBudget`],
/// within the call's deadline, never after a cancellation.
///
/// ```
/// use std::time::Duration;
/// use serde_json::json;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_dspy::{Carrier, Error, LmError, PredictRequest, Prediction, RetryLayer};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Error> {
/// // The first attempt of each call finds no capacity.
/// let program = service_fn(|request: PredictRequest| async move {
///     match request.context().map(|context| context.attempt) {
///         Some(0) => Err(LmError::new("LMRateLimitError", "slow down", Some(429), None).into()),
///         _ => Ok::<_, Error>(Prediction::new(Default::default())),
///     }
/// });
/// let program = ServiceBuilder::new()
///     .layer(RetryLayer::new(2).with_min_attempt(Duration::from_millis(500)))
///     .service(program);
/// program.oneshot(PredictRequest::new(json!({"question": "..."}))).await?;
/// # Ok(())
/// # }
/// ```
///
/// # What is retried
/// [`ErrorKind::Elapsed`], one attempt took too long, and [`ErrorKind::LmUnavailable`], the LM
/// could not be reached, had no capacity or failed on its side: DSPy's own retries and those of
/// provider SDKs are off, so nothing else retries a 429 or a 503.
/// [`on_kinds`](RetryLayer::on_kinds) names other kinds. [`ErrorKind::Deadline`],
/// [`ErrorKind::Cancelled`], [`ErrorKind::ShuttingDown`] and [`ErrorKind::BudgetExceeded`] are never
/// retried, not even if named: each attempt of a call is charged to the same budgets.
///
/// # What ends the attempts
/// The number of retries; the call's [deadline](crate::Deadline), if the wait would leave no more
/// than [`with_min_attempt`](RetryLayer::with_min_attempt) of it; a cancelled call; a budget that
/// is used up. The caller then gets the last attempt's error as it was, at once. A provider's
/// Retry-After makes the wait longer, never shorter, and ends the attempts if it does not fit.
///
/// # The work of the attempt before
/// A failed attempt is answered, but its work may go on: clean-up code in Python, a thread that cannot
/// be stopped at once. By default the next attempt does not wait for it. With
/// [`after_settled`](RetryLayer::after_settled) it does.
///
/// # What it demands of the inner service
/// `Clone`, and an error that implements [`Classify`](crate::Classify), unless the layer is given
/// [a function](RetryLayer::classify). It is waited for until it is ready before each attempt. The
/// request is a [`Carrier`], and `Clone`: it is cloned for each attempt but the last. The service,
/// its futures, its errors and the request are `Send` and `'static`: a call whose first attempt has
/// failed goes on in a boxed future.
///
/// # Where it belongs
/// Inside the deadline and the cancel layer, which end a call that waits for its next
/// attempt, and outside the limit of one attempt. Have one retry layer: three that are nested, of
/// three attempts each, are 27 attempts.
///
/// # How it differs from `tower::retry`
/// - It comes with a policy, which tower leaves to its users: [`RetryPolicy`], a
///   [`tower::retry::Policy`] that tower's own layer takes as well.
/// - It is tower's mechanism, aware of cancellation: a call that is cancelled between two attempts
///   is answered at once, with the last attempt's error, and makes no further one. tower's would
///   wait and try again, also in the grace of a layer around it.
/// - All attempts of a call have one call id.
/// - `TpsBudget` is paid when the decision is made, ours when the attempt is sent, and not at all
///   if it never is.
///
/// # Panics
/// The future panics if it has to wait outside a tokio runtime with its timer enabled.
///
/// # Cancel safety
/// Dropping the response future drops the attempt that runs, and nothing is sent any more.
#[derive(Clone, Debug)]
pub struct RetryLayer<C = ByClassify> {
    rules: Rules,
    classify: C,
}

impl RetryLayer {
    /// At most `retries` retries, so at most `retries + 1` attempts.
    ///
    /// With the default [`Backoff`] (exponential, 100 ms to 10 s, full jitter) and a default
    /// [`RetryBudget`] of this layer's own, shared by its clones and by all services that it makes:
    /// 20 % of the requests that are answered, and 10 retries in 10 s besides.
    #[must_use]
    pub fn new(retries: u32) -> Self {
        Self {
            rules: Rules {
                retries,
                kinds: Kinds::of(&[ErrorKind::Elapsed, ErrorKind::LmUnavailable]),
                backoff: Backoff::default(),
                min_attempt: Duration::ZERO,
                after_settled: false,
                budget: RetryBudget::default(),
            },
            classify: ByClassify,
        }
    }
}

impl<C> RetryLayer<C> {
    /// Waits like this before each retry.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.rules.backoff = backoff;
        self
    }

    /// Retries failures of these kinds, in place of [`ErrorKind::Elapsed`] and
    /// [`ErrorKind::LmUnavailable`]. [`ErrorKind::Deadline`], [`ErrorKind::Cancelled`] and
    /// [`ErrorKind::ShuttingDown`] are left out whether named or not.
    #[must_use]
    pub fn on_kinds(mut self, kinds: impl IntoIterator<Item = ErrorKind>) -> Self {
        let kinds = kinds.into_iter().collect::<Kinds>();
        self.rules.kinds = kinds.without(policy::NEVER);
        self
    }

    /// Does not retry unless more than `needed` of the call's deadline is left after the wait.
    /// Zero by default: something must be left.
    #[must_use]
    pub fn with_min_attempt(mut self, needed: Duration) -> Self {
        self.rules.min_attempt = needed;
        self
    }

    /// Begins an attempt when the work of the one before has ended, with its clean-up code: an attempt
    /// that still runs is not joined by a second one.
    ///
    /// The wait goes on beside the backoff. If it does not end while the deadline leaves time for an
    /// attempt, as by [`with_min_attempt`](Self::with_min_attempt), the caller gets the last attempt's
    /// error then; without a deadline it lasts as long as the work. A call that is cancelled waits no
    /// longer. Only the work of a host is waited for, in this process or its workers, as by
    /// [`Cancel::settled`](crate::Cancel::settled): other services have ended with their futures, and
    /// a client of another node does not see the work there. This costs a
    /// [`Cancel`](crate::Cancel) node an attempt.
    ///
    /// ```
    /// use std::time::Duration;
    /// use serde_json::json;
    /// use tokio::time::Instant;
    /// use tower::{ServiceBuilder, ServiceExt};
    /// use tower_dspy::{Backoff, Error, PredictRequest, RetryLayer, TimeoutLayer};
    /// use tower_dspy::testing::mock::{MockDspy, Reply};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Error> {
    /// // The clean-up code of the first attempt takes two seconds.
    /// let program = MockDspy::new([
    ///     Reply::hang().lingers(Duration::from_secs(2)),
    ///     Reply::answer(json!({"answer": "Paris"})),
    /// ]);
    /// let stack = ServiceBuilder::new()
    ///     .layer(RetryLayer::new(1).with_backoff(Backoff::fixed(Duration::ZERO)).after_settled())
    ///     .layer(TimeoutLayer::new(Duration::from_secs(4)))
    ///     .service(program);
    ///
    /// let start = Instant::now();
    /// stack.oneshot(PredictRequest::new(json!({"question": "..."}))).await?;
    /// assert_eq!(start.elapsed(), Duration::from_secs(6));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn after_settled(mut self) -> Self {
        self.rules.after_settled = true;
        self
    }

    /// Takes retries from this budget, which other layers may share.
    #[must_use]
    pub fn with_budget(mut self, budget: RetryBudget) -> Self {
        self.rules.budget = budget;
        self
    }

    /// Reads the kind of an error with `kind`, for errors that do not implement
    /// [`Classify`](crate::Classify). A function knows nothing of Retry-After.
    ///
    /// ```
    /// use tower_dspy::{ErrorKind, RetryLayer};
    ///
    /// let layer = RetryLayer::new(1).classify(|error: &std::io::Error| match error.kind() {
    ///     std::io::ErrorKind::TimedOut => ErrorKind::Elapsed,
    ///     _ => ErrorKind::Other,
    /// });
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn classify<E, F>(self, kind: F) -> RetryLayer<ByFn<F>>
    where
        F: Fn(&E) -> ErrorKind,
    {
        RetryLayer {
            rules: self.rules,
            classify: ByFn(kind),
        }
    }

    /// The decisions of this layer, for a `tower::retry::RetryLayer`. That one does not see a
    /// cancellation between two attempts, does not wait for the end of work, and gives the attempts one
    /// call id only if the request had one.
    #[must_use]
    pub fn into_policy(self) -> RetryPolicy<C> {
        RetryPolicy {
            rules: Arc::new(self.rules),
            classify: self.classify,
            done: 0,
            reservation: None,
        }
    }
}

impl<S, C: Clone> Layer<S> for RetryLayer<C> {
    type Service = Retry<S, C>;

    fn layer(&self, inner: S) -> Retry<S, C> {
        Retry::new(inner, self.clone().into_policy())
    }
}

/// Retries failed attempts; see [`RetryLayer`].
#[derive(Clone, Debug)]
pub struct Retry<S, C = ByClassify> {
    inner: S,
    policy: RetryPolicy<C>,
}

impl<S, C> Retry<S, C> {
    /// Retries attempts at `inner` as `policy` decides.
    pub const fn new(inner: S, policy: RetryPolicy<C>) -> Self {
        Self { inner, policy }
    }

    inner_service_accessors!();
}

impl<S, C, R> Service<R> for Retry<S, C>
where
    S: Service<R, Error: Send + 'static, Future: Send> + Clone + Send + 'static,
    C: Classifier<S::Error> + Clone + Send + 'static,
    R: Carrier + Clone + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RetryFuture<S, C, R>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: R) -> Self::Future {
        // Before it is cloned, so that all attempts have the same.
        let context = request.context_mut();
        context.id();
        if !carries_costs::<S::Error>() {
            context.open_record();
        }
        let record = ReportOnDrop(context.record.clone());
        let mut policy = self.policy.clone();
        let further = policy.begin_attempt(&request);
        let later = LaterAttempts {
            work: policy.work_node(&mut request),
            request: further,
            policy,
            // The service that was ready takes the first attempt; its clone waits for itself.
            service: self.inner.clone(),
            record,
        };
        RetryFuture {
            first: Some(self.inner.call(request)),
            later: Some(later),
            retried: None,
        }
    }
}
