//! [`CancellablePrediction`]: one operation that can be watched and cancelled from elsewhere.

use std::{fmt, sync::Arc, thread, time::Duration};

use futures_util::TryFutureExt;
use tokio::time::Instant;
use tower::{Service, util::Oneshot};

use super::{
    PredictionHandle, TimeoutError,
    outcome::{Outcome, TimeoutResult},
    run::{Bounds, Host, Run, is_late, tighter},
    status::{PredictionStatus, Progress},
};
use crate::{
    call::{Cancel, Carrier, Cause, Deadline, drop_scope},
    error::{Classify, ErrorKind},
    layers::guard::Limit,
};

type Cleanup = Box<dyn FnOnce(Cause) + Send>;

/// One prediction, or any operation, with a token, a status, limits and clean-up.
///
/// It runs once. Whoever is to watch or cancel it meanwhile takes a [`handle`](Self::handle) first.
///
/// ```
/// use std::time::Duration;
/// use tower_dspy::patterns::{CancellablePrediction, PredictionStatus, TimeoutError};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let prediction = CancellablePrediction::new()
///     .with_timeout(Duration::from_secs(60))
///     .on_cancel(|cause| println!("cleaning up: {cause}"));
/// let handle = prediction.handle();
/// assert_eq!(handle.status(), PredictionStatus::Pending);
///
/// let running = tokio::spawn(prediction.execute(async {
///     tokio::time::sleep(Duration::from_secs(30)).await;
///     Ok::<_, std::io::Error>("Paris")
/// }));
/// tokio::time::sleep(Duration::from_secs(10)).await;
/// assert_eq!(handle.status(), PredictionStatus::Running);
///
/// handle.cancel();
/// assert_eq!(handle.ended().await, PredictionStatus::Cancelled);
/// assert_eq!(handle.elapsed(), Duration::from_secs(10));
/// assert!(matches!(running.await.unwrap(), Err(TimeoutError::Cancelled(_))));
/// # }
/// ```
///
/// # Status
/// Each has exactly one final [status](PredictionStatus), which agrees with what the future
/// answered, whatever limits and cancellations race: an answer that is ready wins over a
/// cancellation, and that over a limit. It becomes final when the operation is gone and clean-up
/// code has run. One that is cancelled before it starts never starts. If the future is dropped, the
/// status is `Cancelled`, or `TimedOut` if a limit around it was the reason.
///
/// # The token
/// The token of a prediction is a child of the one it was [given](Self::with_token). It is cancelled
/// too when a limit passes or the future is dropped, so tasks that hold it stop as well; it is left
/// alone when the prediction completes or fails.
pub struct CancellablePrediction {
    progress: Arc<Progress>,
    limit: Option<Duration>,
    deadline: Option<Deadline>,
    grace: Duration,
    cleanups: Vec<Cleanup>,
}

impl CancellablePrediction {
    /// A prediction without limits, and with a token of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::on(Cancel::new())
    }

    /// A prediction that `token`, a plain `CancellationToken` or a [`Cancel`], stops too; cancelling
    /// the prediction leaves it alone.
    #[must_use]
    pub fn with_token(token: impl Into<Cancel>) -> Self {
        Self::on(token.into().child())
    }

    fn on(node: Cancel) -> Self {
        Self {
            progress: Arc::new(Progress::new(node)),
            limit: None,
            deadline: None,
            grace: Duration::ZERO,
            cleanups: Vec::new(),
        }
    }

    /// Stops it `limit` after it started.
    #[must_use]
    pub fn with_timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Stops it at `deadline`; one that starts later does not run.
    #[must_use]
    pub fn with_deadline(mut self, deadline: impl Into<Deadline>) -> Self {
        self.deadline = Some(deadline.into());
        self
    }

    /// Lets the operation clean up by itself for as long as `grace`: when it is to end, its
    /// [token](PredictionHandle::token) is cancelled, and it is polled on until it is done or the
    /// grace has ended. The answer is the same error either way. Zero, the default, drops it at once.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Runs `cleanup`, once, if the prediction is stopped after it started, by a cancellation, a
    /// limit, or because its future was dropped; after the operation is gone. Several run in the
    /// order in which they were added.
    #[must_use]
    pub fn on_cancel(mut self, cleanup: impl FnOnce(Cause) + Send + 'static) -> Self {
        self.cleanups.push(Box::new(cleanup));
        self
    }

    /// A handle to watch and cancel it with.
    #[must_use]
    pub fn handle(&self) -> PredictionHandle {
        PredictionHandle::new(self.progress.clone())
    }

    /// Runs `operation`.
    ///
    /// # Errors
    /// [`TimeoutError::Elapsed`] and [`TimeoutError::Deadline`] at its limits,
    /// [`TimeoutError::Cancelled`] when it was cancelled, [`TimeoutError::Failed`] with the
    /// operation's own error.
    ///
    /// # Cancel safety
    /// Dropping the future drops the operation and runs the clean-up code.
    pub fn execute<F>(self, operation: F) -> impl Future<Output = TimeoutResult<F::Output>> + use<F>
    where
        F: IntoFuture,
        F::Output: Outcome,
    {
        Run::new(operation.into_future(), Predicting::new(self))
    }

    /// Calls `service` with `request`, once it is ready.
    ///
    /// The request gets the prediction's id, its limits and its token in its context. The deadline and
    /// the cancellation that it came with hold as well. An error of the service's own that says that
    /// a limit passed, or that the call was cancelled, makes the status `TimedOut` or `Cancelled`.
    ///
    /// # Errors
    /// As with [`execute`](Self::execute).
    ///
    /// # Cancel safety
    /// As with [`execute`](Self::execute).
    pub fn call<S, R>(
        self,
        service: S,
        request: R,
    ) -> impl Future<Output = Result<S::Response, TimeoutError<S::Error>>> + use<S, R>
    where
        S: Service<R>,
        S::Error: Classify,
        R: Carrier,
    {
        let progress = self.progress.clone();
        let mut host = Predicting::new(self);
        async move {
            let mut request = request;
            host.put_into(&mut request);
            let call = Oneshot::new(service, request).inspect_err(move |error| {
                let (status, cause) = match error.kind() {
                    ErrorKind::Elapsed => (PredictionStatus::TimedOut, Cause::Elapsed),
                    ErrorKind::Deadline => (PredictionStatus::TimedOut, Cause::Deadline),
                    ErrorKind::Cancelled => (PredictionStatus::Cancelled, Cause::Caller),
                    ErrorKind::ShuttingDown => (PredictionStatus::Cancelled, Cause::Shutdown),
                    _ => return,
                };
                progress.fails_as(status, cause);
            });
            Run::new(call, host).await
        }
    }
}

impl Default for CancellablePrediction {
    fn default() -> Self {
        Self::new()
    }
}

/// One that never started is over now.
impl Drop for CancellablePrediction {
    fn drop(&mut self) {
        if !self.progress.status().is_final() {
            self.progress.node.cancel(Cause::Dropped);
            self.progress.finish(PredictionStatus::Cancelled);
        }
    }
}

impl fmt::Debug for CancellablePrediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancellablePrediction")
            .field("id", &self.progress.id)
            .field("limit", &self.limit)
            .field("deadline", &self.deadline)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

/// A prediction on its way. Dropped before the end, it is the end.
struct Predicting {
    prediction: CancellablePrediction,
    /// The limit that the request's context got.
    limit: Option<Limit>,
    /// The node that the request came with.
    also: Option<Cancel>,
    began: bool,
    ended: bool,
}

impl Predicting {
    const fn new(prediction: CancellablePrediction) -> Self {
        Self {
            prediction,
            limit: None,
            also: None,
            began: false,
            ended: false,
        }
    }

    /// Puts the prediction's limits, token and id into a request's context.
    fn put_into(&mut self, request: &mut impl Carrier) {
        let CancellablePrediction {
            progress,
            limit,
            deadline,
            ..
        } = &self.prediction;
        let context = request.context_mut();
        let deadline = context.deadline.into_iter().chain(*deadline).min();
        self.limit = tighter(Instant::now(), *limit, deadline);
        // The very instant, so that layers inside see that the end is left to this one.
        context.deadline = self.limit.map(|limit| limit.at);
        let node = std::mem::replace(&mut context.cancel, progress.node.clone());
        self.also = node.is_some().then_some(node);
        context.call_id = Some(progress.id);
    }

    fn settle(&mut self, status: PredictionStatus, cause: Option<Cause>) {
        let prediction = &mut self.prediction;
        if let Some(cause) = cause {
            prediction.progress.node.cancel(cause);
            for cleanup in std::mem::take(&mut prediction.cleanups) {
                if self.began {
                    cleanup(cause);
                }
            }
        }
        prediction.progress.finish(status);
        self.ended = true;
    }
}

impl Host for Predicting {
    fn begin(&mut self) -> Bounds {
        let CancellablePrediction {
            progress,
            limit,
            deadline,
            grace,
            ..
        } = &self.prediction;
        let since = Instant::now();
        let limit = self.limit.or_else(|| tighter(since, *limit, *deadline));
        let also = self.also.take();
        let cancelled = || progress.node.cause();
        let mut refused = cancelled().or_else(|| also.as_ref().and_then(Cancel::cause));
        if refused.is_none() {
            // Also one that is too late: from then on nobody sees it as cancelled.
            let first = progress.begin(since);
            self.began = first && !limit.as_ref().is_some_and(is_late);
            if !first {
                // Somebody has seen that it was cancelled; so it does not start.
                refused = Some(cancelled().unwrap_or(Cause::Caller));
            }
        }
        Bounds {
            limit,
            node: progress.node.clone(),
            also,
            grace: *grace,
            refused,
            call: Some(progress.id),
        }
    }

    fn end<T, E>(&mut self, result: Result<T, TimeoutError<E>>) -> Result<T, TimeoutError<E>> {
        use PredictionStatus::{Cancelled, Completed, Failed, TimedOut};
        let (status, cause) = match &result {
            Ok(_) => (Completed, None),
            Err(TimeoutError::Elapsed(_)) => (TimedOut, Some(Cause::Elapsed)),
            Err(TimeoutError::Deadline(_)) => (TimedOut, Some(Cause::Deadline)),
            Err(TimeoutError::Cancelled(cancelled)) => (Cancelled, Some(cancelled.cause())),
            Err(TimeoutError::Failed(_)) => match self.prediction.progress.failed_as() {
                Some((status, cause)) => (status, Some(cause)),
                None => (Failed, None),
            },
        };
        self.settle(status, cause);
        result
    }
}

impl Drop for Predicting {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let cause = drop_scope::cause();
        let status = match cause {
            _ if thread::panicking() => PredictionStatus::Failed,
            Cause::Elapsed | Cause::Deadline => PredictionStatus::TimedOut,
            _ => PredictionStatus::Cancelled,
        };
        self.settle(status, Some(cause));
    }
}
