//! The status of a prediction.

use std::{fmt, time::Duration};

use tokio::{sync::watch, time::Instant};

use crate::call::{CallId, Cancel};

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

    /// The status in lower-case words, as logs name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
        }
    }
}

impl fmt::Display for PredictionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The state that a prediction and its handles share.
///
/// Each change of the status is made under the lock of the channel, from the status that it
/// expects: so there is one final status, whatever races.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) id: CallId,
    pub(super) node: Cancel,
    state: watch::Sender<ProgressState>,
}

#[derive(Clone, Copy, Debug)]
struct ProgressState {
    status: PredictionStatus,
    since: Option<Instant>,
    took: Duration,
}

impl Progress {
    pub(super) fn new(node: Cancel) -> Self {
        Self {
            id: CallId::next(),
            node,
            state: watch::Sender::new(ProgressState {
                status: PredictionStatus::Pending,
                since: None,
                took: Duration::ZERO,
            }),
        }
    }

    /// Pending to running; false if it must not start.
    pub(super) fn begin(&self, now: Instant) -> bool {
        self.change(PredictionStatus::Pending, |state| {
            state.status = PredictionStatus::Running;
            state.since = Some(now);
        })
    }

    /// To `status`, unless the status is final already.
    pub(super) fn finish(&self, status: PredictionStatus) {
        self.state.send_if_modified(|state| {
            let open = !state.status.is_final();
            if open {
                state.status = status;
                state.took = state.since.map(|since| since.elapsed()).unwrap_or_default();
            }
            open
        });
    }

    pub(super) fn status(&self) -> PredictionStatus {
        let status = self.state.borrow().status;
        if status != PredictionStatus::Pending || !self.node.is_cancelled() {
            return status;
        }
        // Cancelled before it started: from now on it cannot start.
        self.change(PredictionStatus::Pending, |state| {
            state.status = PredictionStatus::Cancelled;
        });
        self.state.borrow().status
    }

    pub(super) fn elapsed(&self) -> Duration {
        let state = *self.state.borrow();
        match state.since {
            Some(since) if !state.status.is_final() => since.elapsed(),
            _ => state.took,
        }
    }

    /// Waits for the final status.
    pub(super) async fn ended(&self) -> PredictionStatus {
        let mut changes = self.state.subscribe();
        let pending = |state: &ProgressState| state.status == PredictionStatus::Pending;
        if pending(&changes.borrow_and_update())
            && let Some(cancelled) = self.node.cancelled_owned()
        {
            // A cancelled node makes the status final, but does not notify the channel.
            tokio::select! {
                _ = changes.wait_for(|state| !pending(state)) => {}
                () = cancelled => {}
            }
        }
        self.status();
        // The sender is alive, because `self` is.
        let last = changes.wait_for(|state| state.status.is_final()).await;
        last.map_or_else(|_| self.status(), |state| state.status)
    }

    fn change(&self, from: PredictionStatus, change: impl FnOnce(&mut ProgressState)) -> bool {
        self.state.send_if_modified(|state| {
            let expected = state.status == from;
            if expected {
                change(state);
            }
            expected
        })
    }
}
