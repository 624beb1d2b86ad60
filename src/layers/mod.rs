//! One file a layer.

mod cancel;
pub mod classify;
mod deadline;
pub mod fallback;
pub(crate) mod guard;
pub mod retry;
mod timeout;

pub use cancel::{CancelFuture, CancelLayer, CancelService};
pub use classify::{ByClassify, ByFn, Classifier};
pub use deadline::{DeadlineFuture, DeadlineLayer, DeadlineService};
pub use fallback::{Fallback, FallbackFuture, FallbackLayer};
pub use retry::{Backoff, Retry, RetryBudget, RetryFuture, RetryLayer, RetryPolicy};
pub use timeout::{Timeout, TimeoutFuture, TimeoutLayer};
