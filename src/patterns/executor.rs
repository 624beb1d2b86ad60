//! [`DeadlineExecutor`]: many operations under one deadline.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;

use super::{
    TimeoutError,
    operation::Operation,
    outcome::{Outcome, TimeoutResult},
    run::{Bounds, run},
};
use crate::{
    call::{Cancel, Cause, Deadline, Scope, in_flight::InFlight},
    session::Session,
};

/// Runs many operations under one deadline, and stops them when it passes.
///
/// Clones are the same executor. It runs nothing by itself: each operation makes progress while the
/// future that [`execute`](Self::execute) returned is polled, in whatever task that is.
///
/// ```
/// use std::time::Duration;
/// use tower_dspy::patterns::{DeadlineExecutor, TimeoutError};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// async fn operation(seconds: u64) -> Result<u64, std::io::Error> {
///     tokio::time::sleep(Duration::from_secs(seconds)).await;
///     Ok(seconds)
/// }
///
/// let executor = DeadlineExecutor::within(Duration::from_secs(30));
/// assert_eq!(executor.execute(operation(10)).await.unwrap(), 10);
/// assert_eq!(executor.remaining(), Duration::from_secs(20));
///
/// // A limit of its own, where that is tighter than what is left.
/// let limit = Duration::from_secs(5);
/// let result = executor.execute_with_timeout(limit, operation(60)).await;
/// assert!(matches!(result, Err(TimeoutError::Elapsed(_))));
///
/// let result = executor.execute(operation(60)).await;
/// assert!(matches!(result, Err(TimeoutError::Deadline(_))));
/// # }
/// ```
///
/// With a token, retries and the two kinds of limit told apart:
///
/// ```
/// use std::time::{Duration, Instant};
/// use tokio_util::sync::CancellationToken;
/// use tower_dspy::patterns::{DeadlineExecutor, TimeoutError};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// # async fn predict(item: u64) -> Result<u64, std::io::Error> {
/// #     tokio::time::sleep(Duration::from_secs(item * 10)).await;
/// #     Ok(item)
/// # }
/// let token = CancellationToken::new();
/// // An instant of `std` is taken as well as one of tokio.
/// let executor = DeadlineExecutor::new(Instant::now() + Duration::from_secs(300))
///     .with_cancel(token.clone());
/// let (mut done, mut skipped) = (Vec::new(), Vec::new());
/// for item in 0..100 {
///     if token.is_cancelled() {
///         break;
///     }
///     match executor.execute_with_timeout(Duration::from_secs(30), predict(item)).await {
///         Ok(answer) => done.push(answer),
///         Err(TimeoutError::Elapsed(_)) => skipped.push(item),
///         Err(TimeoutError::Deadline(_) | TimeoutError::Cancelled(_)) => break,
///         Err(TimeoutError::Failed(error)) => panic!("{error}"),
///     }
/// }
/// assert_eq!(done, [0, 1, 2, 3]);
/// // 240 s of the 300 s are left after the first four; each of the others takes 30 s of them.
/// assert_eq!(skipped.len(), 7);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DeadlineExecutor {
    deadline: Deadline,
    /// The parent of the operations and sessions, cancelled at the deadline too.
    node: Cancel,
    operations: Arc<InFlight<Operation>>,
}

impl DeadlineExecutor {
    /// Operations have to end by `deadline`: a [`Deadline`], or an instant of tokio or of `std`.
    #[must_use]
    pub fn new(deadline: impl Into<Deadline>) -> Self {
        Self::below(&Cancel::none(), deadline.into())
    }

    fn below(outer: &Cancel, deadline: Deadline) -> Self {
        Self {
            deadline,
            node: outer.child(),
            operations: Arc::default(),
        }
    }

    /// Operations have to end within `limit` from now.
    #[must_use]
    pub fn within(limit: Duration) -> Self {
        Self::new(Deadline::within(limit))
    }

    /// Lets `cancel`, or a plain `CancellationToken`, stop all of them too.
    ///
    /// It makes another executor, with the same deadline and nothing running yet.
    #[must_use]
    pub fn with_cancel(self, cancel: impl Into<Cancel>) -> Self {
        Self::below(&cancel.into(), self.deadline)
    }

    /// The deadline.
    #[must_use]
    pub const fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// What is left until the deadline; zero once it has passed.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.remaining()
    }

    /// The share of what is left for one of `steps` that are still to be done.
    ///
    /// Asked before each step, it gives what a step saved to the later ones. No step counts as one.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_dspy::patterns::DeadlineExecutor;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let executor = DeadlineExecutor::within(Duration::from_secs(30));
    /// for left in (1..=3).rev() {
    ///     let share = executor.allot(left);
    ///     executor.execute_with_timeout(share, async { "a step" }).await.unwrap();
    /// }
    /// assert_eq!(executor.allot(3), Duration::from_secs(10));
    /// # }
    /// ```
    #[must_use]
    pub fn allot(&self, steps: u32) -> Duration {
        self.remaining() / steps.max(1)
    }

    /// Runs `operation` under the deadline.
    ///
    /// # Errors
    /// [`TimeoutError::Deadline`] at the deadline; the operation does not start if that has passed.
    /// [`TimeoutError::Cancelled`] after [`cancel_all`](Self::cancel_all),
    /// [`TimeoutError::Failed`] with the operation's own error.
    ///
    /// # Cancel safety
    /// Dropping the future drops the operation.
    pub fn execute<F>(
        &self,
        operation: F,
    ) -> impl Future<Output = TimeoutResult<F::Output>> + use<F>
    where
        F: IntoFuture<Output: Outcome>,
    {
        self.run(operation, |bounds| bounds)
    }

    /// Runs `operation` under `limit`, from its first poll, or the deadline, whichever is earlier.
    ///
    /// # Errors
    /// As with [`execute`](Self::execute); and [`TimeoutError::Elapsed`] at `limit`, if that is
    /// earlier than the deadline. When both coincide, it is [`TimeoutError::Deadline`].
    ///
    /// # Cancel safety
    /// Dropping the future drops the operation.
    pub fn execute_with_timeout<F>(
        &self,
        limit: Duration,
        operation: F,
    ) -> impl Future<Output = TimeoutResult<F::Output>> + use<F>
    where
        F: IntoFuture<Output: Outcome>,
    {
        self.run(operation, move |bounds| bounds.within(Some(limit)))
    }

    /// Runs `operation` until `deadline` or the executor's own deadline, whichever is earlier.
    ///
    /// `deadline` is this operation's alone: a [`Deadline`], or an instant of tokio or of `std`. When
    /// it passes, the other operations go on.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use tower_dspy::patterns::{DeadlineExecutor, TimeoutError};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let executor = DeadlineExecutor::within(Duration::from_secs(30));
    /// let never = || std::future::pending::<Result<(), std::io::Error>>();
    ///
    /// let soon = Instant::now() + Duration::from_secs(10);
    /// let result = executor.execute_with_deadline(soon, never()).await;
    /// assert!(matches!(result, Err(TimeoutError::Elapsed(_))));
    ///
    /// // There is time for another operation, but not for longer than the executor has.
    /// let late = Instant::now() + Duration::from_secs(60);
    /// let result = executor.execute_with_deadline(late, never()).await;
    /// assert!(matches!(result, Err(TimeoutError::Deadline(_))));
    /// # }
    /// ```
    ///
    /// # Errors
    /// As with [`execute`](Self::execute); and [`TimeoutError::Elapsed`] at `deadline`, if that is
    /// earlier than the executor's: there is time for other operations then. The operation does not
    /// start if `deadline` has passed. When both coincide, it is [`TimeoutError::Deadline`].
    ///
    /// # Cancel safety
    /// Dropping the future drops the operation.
    pub fn execute_with_deadline<D, F>(
        &self,
        deadline: D,
        operation: F,
    ) -> impl Future<Output = TimeoutResult<F::Output>> + use<D, F>
    where
        D: Into<Deadline>,
        F: IntoFuture<Output: Outcome>,
    {
        let deadline = Some(deadline.into());
        self.run(operation, move |bounds| {
            bounds.until(deadline, Scope::Attempt)
        })
    }

    /// The operations that run, oldest first: started, and not gone yet.
    #[must_use]
    pub fn running_operations(&self) -> Vec<Operation> {
        self.operations.list()
    }

    /// Cancels all that run, and refuses what comes later. Returns how many ran.
    ///
    /// They are gone once their tasks were polled; [`idle`](Self::idle) waits for that.
    pub fn cancel_all(&self) -> usize {
        let running = self.operations.len();
        self.node.cancel(Cause::Caller);
        running
    }

    /// Waits until nothing runs.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn idle(&self) {
        self.operations.wait_empty().await;
    }

    /// The same deadline and cancellation for calls of a service. Cancelling the session leaves the
    /// executor alone.
    #[must_use]
    pub fn session(&self) -> Session {
        Session::until(self.deadline).with_cancel(&self.node)
    }

    fn run<F, B>(
        &self,
        operation: F,
        limited: B,
    ) -> impl Future<Output = TimeoutResult<F::Output>> + use<F, B>
    where
        F: IntoFuture<Output: Outcome>,
        B: FnOnce(Bounds) -> Bounds,
    {
        let executor = self.clone();
        let operation = operation.into_future();
        async move {
            let entry = Operation::start();
            // Listed until the operation is gone.
            let _ticket = executor.operations.enter(entry);
            let bounds = limited(Bounds::new(executor.node.clone()).call(entry.id()));
            let bounds = bounds.until(Some(executor.deadline), Scope::Deadline);
            let result = run(operation, bounds).await;
            if matches!(result, Err(TimeoutError::Deadline(_))) {
                executor.node.cancel(Cause::Deadline);
            }
            result
        }
        .fuse()
    }
}
