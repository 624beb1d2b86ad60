//! The worker processes, with what the pool keeps for each.

use std::collections::BTreeMap;

use super::{
    heartbeat::Heartbeat,
    numbers::WorkerId,
    own_lms::OwnLms,
    phase::WorkerState,
    process::ProcessLink,
    scheduler::Workload,
    stats::WorkerProcess,
    wire::{OwnLm, ToWorker},
};
use crate::host::core::counters::GaugeGuard;

/// A worker process.
pub(super) struct Worker {
    pub(super) link: ProcessLink,
    pub(super) heartbeat: Heartbeat,
    pub(super) own_lms: OwnLms,
    /// Threads that were given up and still work.
    pub(super) abandoned: Vec<GaugeGuard>,
}

impl Worker {
    pub(super) fn new(link: ProcessLink) -> Self {
        Self {
            link,
            heartbeat: Heartbeat::default(),
            own_lms: OwnLms::default(),
            abandoned: Vec::new(),
        }
    }

    pub(super) const fn is_blocked(&self) -> bool {
        self.heartbeat.is_blocked()
    }

    /// A reading of the process, if it exists.
    pub(super) fn reading(&self, state: WorkerState, workload: Workload) -> Option<WorkerProcess> {
        Some(WorkerProcess {
            pid: self.link.pid()?,
            state,
            health: self.heartbeat.health(state),
            in_flight: workload.calls,
            calls: workload.given,
        })
    }

    /// Takes over an LM that a program made itself, and answers.
    pub(super) fn adopt_lm(&mut self, own: OwnLm) {
        let lm = own.lm;
        let (keyed, error) = match self.own_lms.adopt(own) {
            Ok(keyed) => (keyed, None),
            Err(error) => (false, Some(error)),
        };
        let adopted = ToWorker::Adopted { lm, keyed, error };
        self.link.send(&adopted, &[]);
    }
}

/// The worker processes that have not exited.
pub(super) type WorkerTable = BTreeMap<WorkerId, Worker>;
