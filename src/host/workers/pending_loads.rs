//! The loads whose callers wait for an answer.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::numbers::{LoadId, WorkerId};
use crate::host::core::fault::Fault;

/// The loads that not all workers have answered. `L` stands for who asked.
pub(super) struct PendingLoads<L>(BTreeMap<LoadId, PendingLoad<L>>);

struct PendingLoad<L> {
    request: L,
    waiting_for: BTreeSet<WorkerId>,
    /// Of the first worker that answered, or of the first that failed.
    result: Option<Result<Value, Fault>>,
}

impl<L> Default for PendingLoads<L> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<L> PendingLoads<L> {
    pub(super) fn insert(&mut self, load: LoadId, request: L, workers: &[WorkerId]) {
        let pending = PendingLoad {
            request,
            waiting_for: workers.iter().copied().collect(),
            result: None,
        };
        self.0.insert(load, pending);
    }

    pub(super) fn contains(&self, load: LoadId) -> bool {
        self.0.contains_key(&load)
    }

    /// The loads that wait for a worker.
    pub(super) fn of_worker(&self, worker: WorkerId) -> Vec<LoadId> {
        let pending = self.0.iter();
        let waits = pending.filter(|(_, pending)| pending.waiting_for.contains(&worker));
        waits.map(|(load, _)| *load).collect()
    }

    /// Has a load that is pending wait for one more worker.
    pub(super) fn wait_for(&mut self, load: LoadId, worker: WorkerId) {
        if let Some(pending) = self.0.get_mut(&load) {
            pending.waiting_for.insert(worker);
        }
    }

    /// A worker has answered a load.
    pub(super) fn answer(&mut self, load: LoadId, worker: WorkerId, result: Result<Value, Fault>) {
        if let Some(pending) = self.0.get_mut(&load) {
            pending.waiting_for.remove(&worker);
            if result.is_err() || pending.result.is_none() {
                pending.result = Some(result);
            }
        }
    }

    /// A worker will not answer a load.
    pub(super) fn forget(&mut self, load: LoadId, worker: WorkerId) {
        if let Some(pending) = self.0.get_mut(&load) {
            pending.waiting_for.remove(&worker);
        }
    }

    /// Takes a load out once its result is known: the first failure, or the success of all workers.
    /// Without any answer, the next worker that comes up gives one.
    pub(super) fn take_concluded(&mut self, load: LoadId) -> Option<(L, Result<Value, Fault>)> {
        let pending = self.0.get(&load)?;
        let is_concluded = match pending.result {
            Some(Ok(_)) => pending.waiting_for.is_empty(),
            Some(Err(_)) => true,
            None => false,
        };
        if !is_concluded {
            return None;
        }
        let pending = self.0.remove(&load)?;
        Some((pending.request, pending.result?))
    }
}
