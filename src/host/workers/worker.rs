//! The worker processes, with what the pool keeps for each.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    heartbeat::Heartbeat,
    life::WorkerState,
    numbers::{LoadId, WorkerId},
    process::ProcessLink,
    scheduler::Workload,
    stats::WorkerProcess,
    wire::{OwnLm, ToWorker},
};
use crate::{
    host::core::{counters::GaugeGuard, lm_candidates},
    lm::{LmHandle, LmProvider},
};

/// A worker process.
pub(super) struct Worker {
    pub(super) since: Instant,
    pub(super) link: ProcessLink,
    pub(super) heartbeat: Heartbeat,
    /// The LMs that its programs made themselves, by its numbers, which are negative.
    own_lms: HashMap<i64, (LoadId, Arc<LmHandle>)>,
    /// Threads that were given up and still work.
    pub(super) abandoned: Vec<GaugeGuard>,
}

impl Worker {
    pub(super) fn new(link: ProcessLink) -> Self {
        Self {
            since: Instant::now(),
            link,
            heartbeat: Heartbeat::default(),
            own_lms: HashMap::new(),
            abandoned: Vec::new(),
        }
    }

    pub(super) const fn is_blocked(&self) -> bool {
        self.heartbeat.is_blocked()
    }

    /// How long its loop has not run; zero while it runs.
    pub(super) fn blocked_for(&self) -> Duration {
        match self.is_blocked() {
            true => self.heartbeat.lag(),
            false => Duration::ZERO,
        }
    }

    /// A reading of the process, if it exists.
    pub(super) fn reading(&self, state: WorkerState, workload: Workload) -> Option<WorkerProcess> {
        Some(WorkerProcess {
            pid: self.link.pid()?,
            state,
            health: self.heartbeat.health(state),
            in_flight: workload.calls,
            calls: workload.given,
            loop_lag: self.heartbeat.lag(),
            since: self.since,
        })
    }

    /// Takes over an LM that a program made itself, and answers.
    pub(super) fn adopt_lm(&mut self, own: OwnLm) {
        let adopted = lm_candidates::adopt(own.model, own.base_url, own.key);
        let adopted = adopted.map(|handle| {
            self.own_lms.insert(own.lm, (own.load, Arc::new(handle)));
            false
        });
        self.answer_of_lm(own.lm, adopted);
    }

    /// Finds the key and the address of an LM, and answers.
    pub(super) fn resolve_lm(&self, lm: i64, of_host: Option<Arc<LmHandle>>, by: &LmProvider) {
        let handle = of_host.or_else(|| self.own_lm(lm));
        self.answer_of_lm(lm, lm_candidates::resolve(handle.as_deref(), by));
    }

    /// Answers that an LM is not resolved, as no load goes on.
    pub(super) fn refuse_lm(&self, lm: i64) {
        let error = "an LM's key and address are found only while a program is loaded";
        self.answer_of_lm(lm, Err(error.into()));
    }

    fn answer_of_lm(&self, lm: i64, answer: Result<bool, String>) {
        let (keyed, error) = match answer {
            Ok(keyed) => (keyed, None),
            Err(error) => (false, Some(error)),
        };
        self.link.send(&ToWorker::Lm { lm, keyed, error }, &[]);
    }

    pub(super) fn own_lm(&self, lm: i64) -> Option<Arc<LmHandle>> {
        self.own_lms.get(&lm).map(|(_, handle)| handle.clone())
    }

    /// Forgets the LMs of a program that was not loaded, or is unloaded.
    pub(super) fn forget_lms(&mut self, load: LoadId) {
        self.own_lms.retain(|_, (of, _)| *of != load);
    }
}

/// The worker processes that have not exited.
pub(super) type WorkerTable = BTreeMap<WorkerId, Worker>;
