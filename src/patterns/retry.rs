//! Attempts at an operation, one after the other, until one is in time.

use std::time::Duration;

use tower::retry::Policy;

use super::{
    TimeoutError,
    outcome::{Outcome, TimeoutResult},
    run::{Bounds, run},
    timeout,
};
use crate::{
    call::{Cancel, Deadline, Scope, WithContext},
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
    attempts(operation, Some(limit), None, retry).await
}

/// Tries with a quick limit first and, as long as that is too short, with each of the longer ones.
///
/// `operation` makes the future of each attempt; it can count its calls, to begin with a cheaper
/// attempt. The next attempt starts when the one before was stopped at its limit. An operation that
/// fails by itself is not tried again.
///
/// ```
/// use std::time::Duration;
/// use tower_dspy::patterns::escalate;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let start = tokio::time::Instant::now();
/// let answer = escalate([Duration::from_secs(5), Duration::from_secs(30)], || async {
///     tokio::time::sleep(Duration::from_secs(12)).await;
///     Ok::<_, std::io::Error>("Paris")
/// })
/// .await;
/// assert_eq!(answer.unwrap(), "Paris");
/// assert_eq!(start.elapsed(), Duration::from_secs(5 + 12));
/// # }
/// ```
///
/// At least one limit is needed: no limit at all does not compile.
///
/// # Errors
/// The last attempt's: [`TimeoutError::Elapsed`] if it too was stopped at its limit,
/// [`TimeoutError::Failed`] if it failed by itself.
///
/// # Cancel safety
/// Dropping the future drops the attempt that runs, and no further one starts.
pub async fn escalate<const N: usize, M, F>(
    limits: [Duration; N],
    mut operation: M,
) -> TimeoutResult<F::Output>
where
    M: FnMut() -> F,
    F: IntoFuture<Output: Outcome>,
{
    const { assert!(N > 0, "`escalate` needs at least one limit") };
    let mut attempt = 0;
    loop {
        let result = timeout(limits[attempt], operation()).await;
        attempt += 1;
        if attempt == N || !matches!(result, Err(TimeoutError::Elapsed(_))) {
            return result;
        }
        tracing::debug!(
            target: "tower_dspy",
            attempt,
            limit = ?limits[attempt],
            "the attempt was too slow; the next gets longer",
        );
    }
}

/// The loop of the retry layer, over futures in place of a service. Its policy decides.
pub(super) async fn attempts<M, F>(
    mut operation: M,
    limit: Option<Duration>,
    session: Option<Duration>,
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
    let deadline = session.map(Deadline::within);
    let mut call = WithContext::new(());
    call.context.deadline = deadline;
    loop {
        // In this the policy counts a request, or pays for a retry.
        let _ = Policy::<_, Value<F>, Failure<F>>::clone_request(&mut policy, &call);
        let bounds = Bounds::new(Cancel::none()).within(limit);
        let bounds = bounds.until(deadline, Scope::Deadline);
        let mut result = run(operation().into_future(), bounds).await;
        match policy.retry(&mut call, &mut result) {
            Some(wait) => wait.await,
            None => return result,
        }
    }
}
