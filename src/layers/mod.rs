//! One file a layer.

pub mod classify;
mod guard;
pub mod retry;

pub use classify::{ByClassify, ByFn, Classifier};
pub use retry::{Backoff, Retry, RetryBudget, RetryLayer, RetryPolicy};
