//! [`timeout`] and [`run_cancellable`]: one operation with a limit, or with a token.

use std::time::Duration;

use futures_util::FutureExt;

use super::{
    outcome::{Outcome, TimeoutResult},
    run::{Bounds, run},
};
use crate::call::Cancel;

/// Runs `operation` for at most `limit`, and stops it there.
///
/// The limit starts when the returned future is first polled. At the limit the operation is dropped,
/// and a prediction within it gets the cause and stops; only then comes the answer. An operation that
/// is ready at the very instant of the limit wins. [`Duration::MAX`] is no limit.
///
/// ```
/// use std::time::Duration;
/// use serde_json::json;
/// use tower::{ServiceExt, service_fn};
/// use tower_dspy::{Error, PredictRequest, Prediction, patterns::timeout};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// # let program = service_fn(|_: PredictRequest| async {
/// #     Ok::<_, Error>(Prediction::new([("answer".into(), json!("blue"))].into_iter().collect()))
/// # });
/// let request = PredictRequest::new(json!({"question": "What colour is the sky?"}));
/// let answer = timeout(Duration::from_secs(5), program.oneshot(request)).await;
/// assert_eq!(answer.unwrap().get("answer"), Some(&json!("blue")));
///
/// // Something else in time, if the answer is not:
/// let slow = async {
///     tokio::time::sleep(Duration::from_secs(60)).await;
///     "the best answer"
/// };
/// let answer = timeout(Duration::from_secs(5), slow).await.unwrap_or("a cached answer");
/// assert_eq!(answer, "a cached answer");
/// # }
/// ```
///
/// # A quick try, then a longer one
/// ```
/// use std::time::Duration;
/// use tower_dspy::patterns::{TimeoutError, timeout};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let operation = || async {
///     tokio::time::sleep(Duration::from_secs(12)).await;
///     Ok::<_, std::io::Error>("Paris")
/// };
/// let start = tokio::time::Instant::now();
/// let answer = match timeout(Duration::from_secs(5), operation()).await {
///     Err(TimeoutError::Elapsed(_)) => timeout(Duration::from_secs(30), operation()).await,
///     result => result,
/// };
/// assert_eq!(answer.unwrap(), "Paris");
/// assert_eq!(start.elapsed(), Duration::from_secs(5 + 12));
/// # }
/// ```
///
/// # Errors
/// [`TimeoutError::Elapsed`](super::TimeoutError::Elapsed) at the limit, [`TimeoutError::Failed`](super::TimeoutError::Failed) with the operation's own error.
///
/// # How it differs from tokio's
/// Tokio's keeps the operation until its own future is dropped, tells it nothing, starts with the
/// call, and puts one `Result` into another.
///
/// # Panics
/// If it has to wait outside a tokio runtime with its timer enabled.
///
/// # Cancel safety
/// Dropping the future drops the operation.
pub fn timeout<F>(
    limit: Duration,
    operation: F,
) -> impl Future<Output = TimeoutResult<F::Output>> + use<F>
where
    F: IntoFuture<Output: Outcome>,
{
    let operation = operation.into_future();
    async move { run(operation, Bounds::new(Cancel::none()).within(Some(limit))).await }.fuse()
}

/// Runs `operation` until it is done or `token` is cancelled, which stops it at once.
///
/// Stopping is dropping: whatever the operation holds cleans up in its `Drop`, before the answer
/// comes. For clean-up that has to wait, see
/// [`CancellablePrediction`](super::CancellablePrediction) and
/// [`GracefulCancellationHandler`](super::GracefulCancellationHandler). A plain `CancellationToken`
/// is taken, or a [`Cancel`], which says why. Also known as `run_with_cancellation`.
///
/// ```
/// use std::time::Duration;
/// use tokio_util::sync::CancellationToken;
/// use tower_dspy::patterns::{TimeoutError, run_cancellable};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let token = CancellationToken::new();
/// let canceller = token.clone();
/// tokio::spawn(async move {
///     tokio::time::sleep(Duration::from_secs(10)).await;
///     canceller.cancel();
/// });
///
/// let operation = async {
///     tokio::time::sleep(Duration::from_secs(60)).await;
///     Ok::<_, std::io::Error>("too late")
/// };
/// let result = run_cancellable(token, operation).await;
/// assert!(matches!(result, Err(TimeoutError::Cancelled(_))));
/// # }
/// ```
///
/// # Errors
/// [`TimeoutError::Cancelled`](super::TimeoutError::Cancelled), also if the token was cancelled before the first poll: then the
/// operation does not start. [`TimeoutError::Failed`](super::TimeoutError::Failed) with the operation's own error.
///
/// # Cancel safety
/// Dropping the future drops the operation, and cancels no token.
pub fn run_cancellable<F>(
    token: impl Into<Cancel>,
    operation: F,
) -> impl Future<Output = TimeoutResult<F::Output>>
where
    F: IntoFuture<Output: Outcome>,
{
    let token = token.into();
    let operation = operation.into_future();
    async move { run(operation, Bounds::new(token)).await }.fuse()
}
