//! [`PredictionHandle`]: the status and the cancellation of a prediction, from another task.
//!
//! Invariants:
//! 1. The prediction alone changes its progress, once when it begins and once when it ends: so there
//!    is one final status, whatever races.
//! 2. A prediction whose node is cancelled does not begin. The node is read under the lock of the
//!    progress, so a prediction reported as cancelled never runs.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::call::{CallId, Cancel, Cause};

/// The status of a prediction. The last four are final: exactly one of them is reached, and
/// never left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PredictionStatus {
    /// It was not started yet.
    Pending,
    /// It runs, or is being stopped.
    Running,
    /// It answered.
    Completed,
    /// It was cancelled, or its future was dropped.
    Cancelled,
    /// It ended with an error of its own, or panicked.
    Failed,
    /// A limit passed.
    TimedOut,
}

impl PredictionStatus {
    /// Whether nothing can change it any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

/// Watches and cancels a [`CancellablePrediction`](super::CancellablePrediction) from another task.
/// Clones are the same handle.
#[derive(Clone, Debug)]
pub struct PredictionHandle {
    id: CallId,
    node: Cancel,
    progress: watch::Sender<PredictionProgress>,
}

/// How far a prediction has come.
#[derive(Clone, Copy, Debug)]
struct PredictionProgress {
    status: PredictionStatus,
    started: Option<Instant>,
    ended: Option<Instant>,
}

impl PredictionHandle {
    pub(super) fn new(node: Cancel) -> Self {
        Self {
            id: CallId::next(),
            node,
            progress: watch::Sender::new(PredictionProgress {
                status: PredictionStatus::Pending,
                started: None,
                ended: None,
            }),
        }
    }

    /// Names the prediction within this process: in logs, and in the context of a call.
    #[must_use]
    pub const fn id(&self) -> CallId {
        self.id
    }

    /// How far it has come.
    #[must_use]
    pub fn status(&self) -> PredictionStatus {
        match self.progress.borrow().status {
            PredictionStatus::Pending if self.node.is_cancelled() => PredictionStatus::Cancelled,
            status => status,
        }
    }

    /// How long it has run, or did run; zero if it has not started.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.progress.borrow().elapsed()
    }

    /// Cancels it. Returns whether this call decided that; false if it was cancelled before.
    ///
    /// It is over when the [status](Self::status) is final; [`ended`](Self::ended) waits for that.
    pub fn cancel(&self) -> bool {
        self.node.cancel(Cause::Caller)
    }

    /// Its node, to cancel it with a [`Cause`], or to make children of.
    #[must_use]
    pub const fn node(&self) -> &Cancel {
        &self.node
    }

    /// Its token, for the operation itself, which may clean up in its
    /// [grace](super::CancellablePrediction::with_grace), and for tasks that are to stop with it.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.node.token().cloned().unwrap_or_default()
    }

    /// Waits until it is over, and returns how it ended.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn ended(&self) -> PredictionStatus {
        let mut changes = self.progress.subscribe();
        let token = self.token();
        loop {
            let status = self.status();
            if status.is_final() {
                return status;
            }
            tokio::select! {
                // The sender lives as long as `self`.
                _ = changes.changed() => {}
                // A pending prediction ends with its node, which does not notify the channel.
                () = token.cancelled(), if status == PredictionStatus::Pending => {}
            }
        }
    }

    /// Waits until it is over and all its work has ended: in addition to [`ended`](Self::ended), that
    /// of a host which goes on after the answer, as by [`Cancel::settled`]. Returns how it ended. Work
    /// that cannot be stopped may never end: put a limit on this.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn settled(&self) -> PredictionStatus {
        let status = self.ended().await;
        self.node.settled().await;
        status
    }

    /// From pending to running, unless it was cancelled before.
    pub(super) fn begin(&self) {
        self.progress.send_if_modified(|progress| {
            let begins = !self.node.is_cancelled();
            if begins {
                progress.status = PredictionStatus::Running;
                progress.started = Some(Instant::now());
            }
            begins
        });
    }

    /// To the final `status`.
    pub(super) fn finish(&self, status: PredictionStatus) {
        self.progress.send_modify(|progress| {
            progress.status = status;
            progress.ended = Some(Instant::now());
        });
    }
}

impl PredictionProgress {
    fn elapsed(&self) -> Duration {
        let took = |started| match self.ended {
            Some(ended) => ended.duration_since(started),
            None => started.elapsed(),
        };
        self.started.map(took).unwrap_or_default()
    }
}
