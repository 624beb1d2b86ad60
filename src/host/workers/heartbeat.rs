//! The heartbeat of a worker's loop, as it arrives here.

use std::{sync::Arc, time::Duration};

use super::life::WorkerState;
use crate::host::core::{health::Health, loop_monitor::LoopMonitor};
#[cfg(feature = "py-spy")]
use crate::host::gil_holder::GilWatch;

/// The last signs of a worker.
#[derive(Default)]
pub(super) struct Heartbeat {
    pub(super) monitor: Arc<LoopMonitor>,
    /// How often in a row the beat was found late.
    late: u32,
    is_up: bool,
    #[cfg(feature = "py-spy")]
    gil_watch: Option<GilWatch>,
}

impl Heartbeat {
    /// Has the holder of the GIL of the process `pid` named.
    #[cfg(feature = "py-spy")]
    pub(super) fn watch_gil(&mut self, pid: u32) {
        self.gil_watch = Some(GilWatch::new(pid, self.monitor.clone()));
    }

    /// The loop runs.
    pub(super) fn beat(&mut self) {
        self.is_up = true;
        self.monitor.beat();
        self.monitor.pulse();
        self.late = 0;
    }

    /// Compares the age of the beat with its limit. Called as often as the loop should beat.
    pub(super) fn tick(&mut self) {
        if self.is_up && self.monitor.is_late() {
            self.late += 1;
        } else {
            self.late = 0;
        }
    }

    /// Whether the loop does not run. A beat that is late at one tick may be this process's delay.
    pub(super) const fn is_blocked(&self) -> bool {
        self.late > 1
    }

    /// How late the beat is; zero before the first.
    pub(super) fn lag(&self) -> Duration {
        match self.is_up {
            true => self.monitor.lag(),
            false => Duration::ZERO,
        }
    }

    pub(super) fn health(&self, state: WorkerState) -> Health {
        match state {
            WorkerState::Starting => Health::Starting,
            WorkerState::Ending => Health::Lost,
            _ if !self.is_blocked() => Health::Ready,
            _ => self.monitor.health(),
        }
    }
}
