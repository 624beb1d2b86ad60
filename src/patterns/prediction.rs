//! [`CancellablePrediction`]: an operation with a token, a status, limits and clean-up.

use std::{fmt, mem, thread, time::Duration};

use futures_util::FutureExt;
use tower::Service;

use super::{
    PredictionHandle, PredictionStatus, TimeoutError,
    outcome::{Outcome, TimeoutResult},
    run::{Bounds, run},
};
use crate::{
    call::{CallContext, Cancel, Carrier, Cause, Deadline, Scope, drop_scope},
    error::{Classify, ErrorKind},
    layers::guard::{Grace, ReadyCall},
};

type Cleanup = Box<dyn FnOnce(Cause) + Send>;

/// One prediction, or any operation, with a token, a status, limits and clean-up.
///
/// It runs once. A [`handle`](Self::handle), taken before, watches and cancels it meanwhile.
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
    handle: PredictionHandle,
    limit: Option<Duration>,
    deadline: Option<Deadline>,
    grace: Duration,
    cleanups: Vec<Cleanup>,
}

impl CancellablePrediction {
    /// A prediction without limits, and with a token of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::with_token(Cancel::none())
    }

    /// A prediction that `token`, a plain `CancellationToken` or a [`Cancel`], stops too; cancelling
    /// the prediction leaves it alone.
    #[must_use]
    pub fn with_token(token: impl Into<Cancel>) -> Self {
        Self {
            handle: PredictionHandle::new(token.into().child()),
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

    /// Stops it at `deadline`, after which it does not start either.
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
        self.handle.clone()
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
        F: IntoFuture<Output: Outcome>,
    {
        let operation = operation.into_future();
        async move {
            let bounds = self.bounds(&mut CallContext::new());
            self.run_within(operation, bounds, |_| ErrorKind::Other)
                .await
        }
        .fuse()
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
        async move {
            let mut request = request;
            let context = request.context_mut();
            let bounds = self.bounds(context);
            let progress = context.progress.clone();
            let call = ReadyCall::new(service, request, progress);
            self.run_within(call, bounds, Classify::kind).await
        }
        .fuse()
    }

    /// The bounds of an operation that starts now, which are put into its `context`.
    fn bounds(&self, context: &mut CallContext) -> Bounds {
        let (id, node) = (self.handle.id(), self.handle.node());
        let outer = mem::take(&mut context.cancel);
        context.cancel = match outer.is_some() {
            true => node.child_sharing(&outer),
            false => node.clone(),
        };
        let deadline = context.deadline.into_iter().chain(self.deadline).min();
        let mut bounds = Bounds::new(node.clone())
            .call(id)
            .within(self.limit)
            .until(deadline, Scope::Deadline);
        if let Some(limit) = &mut bounds.limit {
            limit.grace = self.grace;
            context.enforce(*limit);
        }
        context.call_id = Some(id);
        bounds.outer = Some(outer);
        bounds.grace = Grace::of_node(self.grace, node, context);
        bounds
    }

    async fn run_within<F>(
        mut self,
        operation: F,
        bounds: Bounds,
        kind: impl FnOnce(&<F::Output as Outcome>::Error) -> ErrorKind,
    ) -> TimeoutResult<F::Output>
    where
        F: IntoFuture<Output: Outcome>,
    {
        // It does not begin if it is cancelled, and then it is refused.
        self.handle.begin();
        let result = run(operation, bounds).await;
        if result.as_ref().is_err_and(TimeoutError::is_refusal) {
            self.cleanups.clear();
        }
        let (status, cause) = match &result {
            Ok(_) => (PredictionStatus::Completed, None),
            Err(TimeoutError::Cancelled(cancelled)) => {
                (PredictionStatus::Cancelled, Some(cancelled.cause()))
            }
            Err(TimeoutError::Failed(error)) => ended_as(kind(error)),
            Err(limit) => ended_as(limit.own_kind()),
        };
        self.settle(status, cause);
        result
    }

    /// Runs the clean-up code of a prediction that `cause` stopped, and makes its status final.
    fn settle(&mut self, status: PredictionStatus, cause: Option<Cause>) {
        if let Some(cause) = cause {
            self.handle.node().cancel(cause);
            for cleanup in mem::take(&mut self.cleanups) {
                cleanup(cause);
            }
        }
        self.handle.finish(status);
    }
}

/// The status of a prediction that ended with an error of this kind, and what stopped it, if it was
/// stopped.
const fn ended_as(kind: ErrorKind) -> (PredictionStatus, Option<Cause>) {
    match kind {
        ErrorKind::Elapsed => (PredictionStatus::TimedOut, Some(Cause::Elapsed)),
        ErrorKind::Deadline => (PredictionStatus::TimedOut, Some(Cause::Deadline)),
        ErrorKind::Cancelled => (PredictionStatus::Cancelled, Some(Cause::Caller)),
        ErrorKind::ShuttingDown => (PredictionStatus::Cancelled, Some(Cause::Shutdown)),
        _ => (PredictionStatus::Failed, None),
    }
}

impl Default for CancellablePrediction {
    fn default() -> Self {
        Self::new()
    }
}

/// Cancels a prediction that has not started. A running prediction ends with the cause of the drop.
impl Drop for CancellablePrediction {
    fn drop(&mut self) {
        match self.handle.status() {
            PredictionStatus::Pending => _ = self.handle.node().cancel(Cause::Dropped),
            PredictionStatus::Running => {
                let cause = drop_scope::cause();
                let status = match cause {
                    _ if thread::panicking() => PredictionStatus::Failed,
                    Cause::Elapsed | Cause::Deadline => PredictionStatus::TimedOut,
                    _ => PredictionStatus::Cancelled,
                };
                self.settle(status, Some(cause));
            }
            _ => {}
        }
    }
}

impl fmt::Debug for CancellablePrediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancellablePrediction")
            .field("id", &self.handle.id())
            .field("limit", &self.limit)
            .field("deadline", &self.deadline)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}
