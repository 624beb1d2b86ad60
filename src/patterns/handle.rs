//! [`PredictionHandle`]: the status and the cancellation of a prediction, from another task.

use std::{fmt, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::status::{PredictionStatus, Progress};
use crate::call::{CallId, Cancel, Cause};

/// Watches and cancels a [`CancellablePrediction`](super::CancellablePrediction) from another task.
/// Clones are the same handle.
#[derive(Clone)]
pub struct PredictionHandle {
    progress: Arc<Progress>,
}

impl PredictionHandle {
    pub(super) const fn new(progress: Arc<Progress>) -> Self {
        Self { progress }
    }

    /// Names the prediction within this process: in logs, and in the context of a call.
    #[must_use]
    pub fn id(&self) -> CallId {
        self.progress.id
    }

    /// How far it has come.
    #[must_use]
    pub fn status(&self) -> PredictionStatus {
        self.progress.status()
    }

    /// How long it has run, or did run; zero if it has not started.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.progress.elapsed()
    }

    /// Cancels it. Returns whether this call decided that; false if it was cancelled before.
    ///
    /// It is over when the [status](Self::status) is final; [`ended`](Self::ended) waits for that.
    pub fn cancel(&self) -> bool {
        self.progress.node.cancel(Cause::Caller)
    }

    /// Its node, to cancel it with a [`Cause`], or to make children of.
    #[must_use]
    pub fn node(&self) -> &Cancel {
        &self.progress.node
    }

    /// Its token, for the operation itself, which may clean up in its
    /// [grace](super::CancellablePrediction::with_grace), and for tasks that are to stop with it.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.node().token().cloned().unwrap_or_default()
    }

    /// Waits until it is over, and returns how it ended.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn ended(&self) -> PredictionStatus {
        self.progress.ended().await
    }
}

impl fmt::Debug for PredictionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PredictionHandle")
            .field("id", &self.id())
            .field("status", &self.status())
            .field("elapsed", &self.elapsed())
            .finish()
    }
}
