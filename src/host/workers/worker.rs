//! The worker processes, with what the pool keeps for each.

use std::{collections::BTreeMap, io};

use super::{
    heartbeat::Heartbeat,
    lifecycle::Lifecycle,
    messages::{LoopMessage, OwnLm},
    numbers::WorkerId,
    own_lms::OwnLms,
    phase::LifecycleAction,
    process::WorkerLink,
    recycle::resident_memory,
    scheduler::Workload,
    stats::{PoolCounts, WorkerProcess},
    wire::ToWorker,
};
use crate::{
    call::CallId,
    host::core::{counters::GaugeGuard, loop_monitor::BlockReport},
};

/// A worker process.
pub(super) struct Worker {
    pub(super) link: WorkerLink,
    pub(super) heartbeat: Heartbeat,
    pub(super) own_lms: OwnLms,
    /// Threads that were given up and still work.
    pub(super) abandoned: Vec<GaugeGuard>,
}

impl Worker {
    fn new(link: WorkerLink) -> Self {
        Self {
            link,
            heartbeat: Heartbeat::default(),
            own_lms: OwnLms::default(),
            abandoned: Vec::new(),
        }
    }

    /// Handles a message about the loop. `call_id` finds the id of a call.
    pub(super) fn on_loop(
        &mut self,
        message: LoopMessage,
        call_id: impl FnOnce(u64) -> Option<CallId>,
    ) {
        match message {
            LoopMessage::Beat => self.heartbeat.beat(),
            LoopMessage::Pulse => self.heartbeat.pulse(),
            LoopMessage::Blocked {
                frames,
                program,
                call,
            } => self.heartbeat.report(&BlockReport {
                frames,
                program,
                call_id: call.and_then(call_id).map(CallId::get),
            }),
        }
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
#[derive(Default)]
pub(super) struct WorkerTable {
    workers: BTreeMap<WorkerId, Worker>,
    last: u64,
}

impl WorkerTable {
    pub(super) fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// Inserts the worker that `spawn` starts under the given id; returns the id.
    pub(super) fn insert(
        &mut self,
        spawn: impl FnOnce(WorkerId) -> io::Result<Option<WorkerLink>>,
    ) -> io::Result<Option<WorkerId>> {
        let id = WorkerId(self.last + 1);
        let Some(link) = spawn(id)? else {
            return Ok(None);
        };
        self.last = id.0;
        self.workers.insert(id, Worker::new(link));
        Ok(Some(id))
    }

    pub(super) fn get(&self, worker: WorkerId) -> Option<&Worker> {
        self.workers.get(&worker)
    }

    pub(super) fn get_mut(&mut self, worker: WorkerId) -> Option<&mut Worker> {
        self.workers.get_mut(&worker)
    }

    pub(super) fn remove(&mut self, worker: WorkerId) -> Option<Worker> {
        self.workers.remove(&worker)
    }

    pub(super) fn send(&self, worker: WorkerId, message: &ToWorker<'_>, tail: &[u8]) {
        if let Some(worker) = self.get(worker) {
            worker.link.send(message, tail);
        }
    }

    fn kill(&self, worker: WorkerId) {
        if let Some(worker) = self.get(worker) {
            worker.link.kill();
        }
    }

    /// Compares the age of each heartbeat with its limit.
    pub(super) fn tick(&mut self) {
        for worker in self.workers.values_mut() {
            worker.heartbeat.tick();
        }
    }

    pub(super) fn is_blocked(&self, worker: WorkerId) -> bool {
        let worker = self.get(worker);
        worker.is_some_and(|worker| worker.heartbeat.is_blocked())
    }

    pub(super) fn pid(&self, worker: WorkerId) -> Option<u32> {
        self.get(worker)?.link.pid()
    }

    pub(super) fn memory(&self, worker: WorkerId) -> Option<u64> {
        resident_memory(self.pid(worker)?)
    }

    /// Applies what the lifecycle has returned.
    pub(super) fn apply(
        &self,
        counts: &PoolCounts,
        actions: impl IntoIterator<Item = LifecycleAction>,
    ) {
        for action in actions {
            match action {
                LifecycleAction::Kill { worker } => self.kill(worker),
                LifecycleAction::KillOverdue { worker } => {
                    counts.killed.add(1);
                    self.kill(worker);
                }
                LifecycleAction::Stop { worker, grace } => {
                    let grace = grace.as_secs_f64();
                    self.send(worker, &ToWorker::Stop { grace }, &[]);
                }
                LifecycleAction::Recycle { worker, why } => tracing::info!(
                    target: "tower_dspy",
                    pid = self.pid(worker),
                    why,
                    "a worker is replaced by a fresh one"
                ),
            }
        }
    }

    /// A reading of the processes that exist.
    pub(super) fn reading(
        &self,
        lifecycle: &Lifecycle,
        workload: impl Fn(WorkerId) -> Workload,
    ) -> Vec<WorkerProcess> {
        let processes = self.workers.iter().filter_map(|(&id, worker)| {
            let state = lifecycle.state(id)?;
            let workload = workload(id);
            Some(WorkerProcess {
                pid: worker.link.pid()?,
                state,
                health: worker.heartbeat.health(state),
                in_flight: workload.calls,
                calls: workload.given,
            })
        });
        processes.collect()
    }
}
