//! Attempts at an operation, one after the other, until one is in time.

use std::time::Duration;

use tower::retry::Policy;

use super::{
    DeadlineExecutor, TimeoutError,
    outcome::{Outcome, TimeoutResult},
};
use crate::{
    call::WithContext,
    error::ErrorKind,
    layers::{Backoff, RetryBudget, RetryLayer},
};

/// Tries again, at most `max_retries` times, while an operation takes longer than `limit`.
///
/// `operation` makes the future of each attempt. An attempt that is too slow is stopped before the
/// next one starts, which it does at once: the limit was wait enough. For a backoff and a deadline
/// over all attempts, see [`TimeoutConfig`](super::TimeoutConfig). An operation that fails by itself
/// is not tried again.
///
/// ```
/// use std::time::Duration;
/// use tower_dspy::patterns::retry_on_timeout;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let mut attempts = 0;
/// let answer = retry_on_timeout(
///     || {
///         attempts += 1;
///         let slow = attempts < 3;
///         async move {
///             tokio::time::sleep(Duration::from_secs(if slow { 60 } else { 1 })).await;
///             Ok::<_, std::io::Error>("Paris")
///         }
///     },
///     Duration::from_secs(5),
///     3,
/// )
/// .await;
/// assert_eq!(answer.unwrap(), "Paris");
/// assert_eq!(attempts, 3);
/// # }
/// ```
///
/// # Errors
/// The last attempt's: [`TimeoutError::Elapsed`] if all were too slow, [`TimeoutError::Failed`] if
/// it failed by itself.
///
/// # Cancel safety
/// Dropping the future drops the attempt that runs, and no further one starts.
pub async fn retry_on_timeout<M, F>(
    operation: M,
    limit: Duration,
    max_retries: u32,
) -> TimeoutResult<F::Output>
where
    M: FnMut() -> F,
    F: IntoFuture<Output: Outcome>,
{
    let retry = RetryLayer::new(max_retries)
        .with_backoff(Backoff::fixed(Duration::ZERO))
        .with_budget(RetryBudget::unlimited());
    let session = DeadlineExecutor::within(Duration::MAX);
    attempts(operation, limit, session, retry).await
}

/// The loop of the retry layer, over futures in place of a service. Its policy decides.
pub(super) async fn attempts<M, F>(
    mut operation: M,
    limit: Duration,
    session: DeadlineExecutor,
    retry: RetryLayer,
) -> TimeoutResult<F::Output>
where
    M: FnMut() -> F,
    F: IntoFuture<Output: Outcome>,
{
    type Value<F> = <<F as IntoFuture>::Output as Outcome>::Value;
    type Failure<F> = TimeoutError<<<F as IntoFuture>::Output as Outcome>::Error>;

    let mut policy = retry
        .on_kinds([ErrorKind::Elapsed])
        .classify(Failure::<F>::own_kind)
        .into_policy();
    let mut call = WithContext::new(());
    call.context.limit(session.deadline());
    loop {
        // In this the policy counts a request, or pays for a retry.
        let _ = Policy::<_, Value<F>, Failure<F>>::clone_request(&mut policy, &call);
        let mut result = session.execute_with_timeout(limit, operation()).await;
        match policy.retry(&mut call, &mut result) {
            Some(wait) => wait.await,
            None => return result,
        }
    }
}
