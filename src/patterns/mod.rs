//! Limits, deadlines, retries and cancellation for plain futures.
//!
//! The layers of this crate wrap a service. This module offers the same for any future, such as a
//! call of a service with something before and after it. What is stopped is dropped before the
//! answer comes, a prediction in it gets the cause, and what is ready wins.
//!
//! | for | there is | as a layer |
//! |---|---|---|
//! | one limit | [`timeout`] | [`TimeoutLayer`](crate::TimeoutLayer) |
//! | another try when it was too short | [`retry_on_timeout`] | [`RetryLayer`](crate::RetryLayer) |
//! | another answer, when there is none in time | `match` on [`TimeoutError`] | [`FallbackLayer`](crate::FallbackLayer), with the last good answer too |
//! | limits, retries and backoff in one place | [`TimeoutConfig`] | [`TimeoutConfig::layer`] |
//! | one deadline over many operations | [`DeadlineExecutor`] | [`DeadlineLayer`](crate::DeadlineLayer), [`Session`](crate::Session) |
//! | a token | [`run_cancellable`], [`run_with_cancellation`] | [`CancelLayer`](crate::CancelLayer) |
//! | a token, a status and clean-up | [`CancellablePrediction`] | |
//! | an end that waits for the work | [`GracefulCancellationHandler`] | |
//! | many requests at once | [`predict_all`](crate::predict_all) | |
//!
//! # Common to all
//! - **An operation** is anything that can be awaited. One that ends with `Result<T, E>` answers
//!   `Result<T, TimeoutError<E>>`; one that ends with a plain value cannot fail: see [`Outcome`].
//! - **Nothing starts before the first poll**: neither the operation nor its limit, whenever the
//!   future was made.
//! - **Dropping the future** that one of these functions returned drops the operation.
//! - Limits inside limits: an operation that has limits of its own fails, for the limit around it,
//!   with its own [`TimeoutError`]; [`TimeoutError::flatten`] makes one of the two.
//!
//! ```
//! use std::time::Duration;
//! use tower_dspy::patterns::{TimeoutError, timeout};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! // A session of 60 s around ten requests of at most 5 s each.
//! let session = timeout(Duration::from_secs(60), async {
//!     let mut answers = Vec::new();
//!     for n in 0..10 {
//!         let request = async move {
//!             tokio::time::sleep(Duration::from_secs(n)).await;
//!             Ok::<_, std::io::Error>(n)
//!         };
//!         match timeout(Duration::from_secs(5), request).await {
//!             Err(TimeoutError::Elapsed(_)) => continue,
//!             result => answers.push(result?),
//!         }
//!     }
//!     Ok::<_, TimeoutError<std::io::Error>>(answers)
//! });
//! let answers = session.await.map_err(TimeoutError::flatten);
//! // The one of just 5 s is in time.
//! assert_eq!(answers.unwrap(), [0, 1, 2, 3, 4, 5]);
//! # }
//! ```
//!
//! # Panics
//! All that limit time panic if they have to wait outside a tokio runtime with its timer enabled.

mod config;
mod error;
mod executor;
mod graceful;
mod handle;
mod limit;
mod operation;
mod outcome;
mod prediction;
mod retry;
mod run;

/// The other name of [`run_cancellable`].
pub use self::limit::run_cancellable as run_with_cancellation;
pub use self::{
    config::TimeoutConfig,
    error::TimeoutError,
    executor::DeadlineExecutor,
    graceful::{CancellationReport, GracefulCancellationHandler},
    handle::{PredictionHandle, PredictionStatus},
    limit::{run_cancellable, timeout},
    operation::Operation,
    outcome::{Outcome, TimeoutResult, infallible},
    prediction::CancellablePrediction,
    retry::retry_on_timeout,
};
