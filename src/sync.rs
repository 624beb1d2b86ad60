//! What threads share. The models in `tests/models` build the same files over loom's types.

pub(crate) use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

pub(crate) use tokio::sync::Notify;
pub(crate) use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
