//! What is done without this crate: `tokio::time::timeout` around a call into Python.
//!
//! The usual bridge is `pyo3_async_runtimes`' `into_future`. Dropping its future leaves the Python
//! task running, as dropping the `JoinHandle` of a tokio task does. So a detached task stands for
//! it here: the same host, the same program, and nobody who ends it.

use std::time::Duration;

use tokio::{
    task::AbortHandle,
    time::{Instant, error::Elapsed, timeout},
};
use tower_dspy::{DspyService, PredictRequest};

use crate::stage::ask;

/// A call that was given up, or was answered in time.
#[derive(Debug)]
pub(crate) struct Naive {
    pub(crate) elapsed: bool,
    pub(crate) took: Duration,
    pub(crate) ended: Instant,
    /// Ends what goes on, for a tour that has to go on too.
    pub(crate) left_behind: AbortHandle,
}

/// Asks, and gives up after `limit`.
pub(crate) async fn ask_naively(
    service: DspyService,
    request: PredictRequest,
    limit: Duration,
) -> Naive {
    let began = Instant::now();
    let task = tokio::spawn(ask(service, request));
    let left_behind = task.abort_handle();
    let outcome: Result<_, Elapsed> = timeout(limit, task).await;
    let ended = Instant::now();
    Naive {
        elapsed: outcome.is_err(),
        took: ended - began,
        ended,
        left_behind,
    }
}
