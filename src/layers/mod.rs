//! One file a layer.

pub mod classify;
pub mod fallback;
mod guard;
pub mod retry;

pub use classify::{ByClassify, ByFn, Classifier};
pub use fallback::{Fallback, FallbackLayer};
pub use retry::{Backoff, Retry, RetryBudget, RetryLayer, RetryPolicy};
