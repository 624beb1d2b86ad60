//! What is done without this crate: `tokio::time::timeout` around a call into Python.
//!
//! The usual bridge is `pyo3_async_runtimes`' `into_future`. Dropping its future leaves the Python
//! task running, as dropping the `JoinHandle` of a tokio task does. So a detached task stands for
//! it here: the same host, the same program, and nobody who ends it.
//!
//! A tracker stands around the caller, so that its record has both: the caller's end, and that of the
//! work, which has the record in its request and goes on to write into it.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{task::AbortHandle, time::Instant};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_dspy::{CallId, Carrier, Error, Lost, PredictRequest, Prediction, TrackLayer};

/// A call that was given up, or was answered in time.
#[derive(Debug)]
pub(crate) struct Naive {
    pub(crate) id: CallId,
    pub(crate) given_up: bool,
    pub(crate) is_answered: bool,
    pub(crate) took: Duration,
    pub(crate) ended: Instant,
    /// Ends what goes on, for a tour that has to go on too.
    pub(crate) left_behind: LeftBehind,
}

/// A detached task, once it was begun.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeftBehind(Arc<OnceLock<AbortHandle>>);

impl LeftBehind {
    pub(crate) fn abort(&self) {
        if let Some(task) = self.0.get() {
            task.abort();
        }
    }
}

/// Asks, and gives up when `until` is ready.
pub(crate) async fn ask_naively<S>(
    tracked: TrackLayer,
    service: S,
    mut request: PredictRequest,
    until: impl Future<Output = ()>,
) -> Naive
where
    S: Service<PredictRequest, Response = Prediction, Error = Error> + Clone + Send + 'static,
    S::Future: Send,
{
    let left_behind = LeftBehind::default();
    let begun = left_behind.clone();
    let detached = service_fn(move |request| {
        let task = tokio::spawn(service.clone().oneshot(request));
        let _ = begun.0.set(task.abort_handle());
        async move {
            let answer = task.await;
            answer.unwrap_or_else(|error| Err(Lost::new(error.to_string()).into()))
        }
    });
    let id = request.context_mut().id();
    let began = Instant::now();
    let outcome = tokio::select! {
        // Dropped with its `JoinHandle`, which ends nothing.
        outcome = tracked.layer(detached).oneshot(request) => Some(outcome),
        () = until => None,
    };
    let ended = Instant::now();
    Naive {
        id,
        given_up: outcome.is_none(),
        is_answered: matches!(outcome, Some(Ok(_))),
        took: ended - began,
        ended,
        left_behind,
    }
}
