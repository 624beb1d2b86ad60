//! Programs, loaded in every worker: those that are there, and each that takes a lost one's place.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;
use tokio::sync::oneshot;

use super::{WorkerState, fault, pool::Pool, wire::ToWorker, worker::Worker};
use crate::host::core::{clock, fault::Fault, queue::LoadOutcome, registry::Registrations};

/// What a worker answers.
type Answer = Result<Value, Fault>;

/// What was loaded, and what is being loaded, by the pool's numbers.
#[derive(Default)]
pub(super) struct Loads {
    last: u64,
    specs: BTreeMap<u64, Value>,
    /// The fields of each, as they were told when it was first loaded.
    fields: BTreeMap<u64, [Value; 2]>,
    pending: BTreeMap<u64, Pending>,
}

impl Loads {
    /// Whether a worker has loaded them all, or failed to.
    pub(super) fn has_all(&self, worker: &Worker) -> bool {
        let mut specs = self.specs.keys();
        specs.all(|load| worker.targets.contains_key(load) || worker.lacks.contains_key(load))
    }

    /// What a replacement has other fields for, if it does.
    pub(super) fn differs(&self, load: u64, told: &Value) -> Option<String> {
        let before = self.fields.get(&load)?;
        let now = fields(told);
        (*before != now).then(|| {
            format!(
                "it takes or gives other fields: before {} -> {}, now {} -> {}; load it as \
                 another service",
                before[0], before[1], now[0], now[1],
            )
        })
    }

    pub(super) fn replace(&mut self, load: u64, spec: Value) {
        self.specs.insert(load, spec);
    }
}

fn fields(told: &Value) -> [Value; 2] {
    ["inputs", "outputs"].map(|name| told.get(name).cloned().unwrap_or_default())
}

/// A loading that not all workers have answered.
struct Pending {
    reply: oneshot::Sender<LoadOutcome>,
    registrations: Registrations,
    waiting_for: BTreeSet<u64>,
    /// Of the first worker that answered, or of the first that failed.
    result: Option<Answer>,
}

impl Loads {
    /// Whether a program is loaded, or to be.
    pub(super) fn has(&self, load: u64) -> bool {
        self.specs.contains_key(&load)
    }
}

impl Pool {
    /// Loads a program in every worker. Those that start load it before they take a call.
    pub(super) fn load(
        &mut self,
        spec: Value,
        registrations: Registrations,
        reply: oneshot::Sender<LoadOutcome>,
    ) {
        self.loads.last += 1;
        let load = self.loads.last;
        let mut waiting_for = BTreeSet::new();
        let stays = |worker: &Worker| {
            worker.asked && matches!(worker.state, WorkerState::Starting | WorkerState::Ready)
        };
        for (id, worker) in self.workers.iter().filter(|(_, worker)| stays(worker)) {
            let spec = &spec;
            worker.process.say(&ToWorker::Load { load, spec }, &[]);
            waiting_for.insert(*id);
        }
        self.loads.specs.insert(load, spec);
        let pending = Pending {
            reply,
            registrations,
            waiting_for,
            result: None,
        };
        self.loads.pending.insert(load, pending);
    }

    /// Whether a worker ends of something that may be its start or a loading, and is not known yet.
    /// Until it is, no other one is started in its place, or given what it may have ended of.
    pub(super) fn awaits_verdict(&self, id: u64, worker: &Worker) -> bool {
        let pending = &mut self.loads.pending.values();
        worker.state == WorkerState::Ending
            && !worker.is_dismissed()
            && (worker.ready_since == Duration::ZERO
                || pending.any(|pending| pending.waiting_for.contains(&id)))
    }

    /// Loads all programs in the workers that have come up and have been given none.
    pub(super) fn load_in_new(&mut self) {
        if self
            .workers
            .iter()
            .any(|(id, worker)| self.awaits_verdict(*id, worker))
        {
            return;
        }
        let new = self.workers.iter().filter(|(_, worker)| {
            worker.up && !worker.asked && worker.state == WorkerState::Starting
        });
        for id in new.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.load_all(id);
        }
    }

    fn load_all(&mut self, id: u64) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.asked = true;
            let new = worker.generation > self.generation;
            for (&load, spec) in &self.loads.specs {
                let replaced = self.replacements.spec(load).filter(|_| new);
                let spec = replaced.unwrap_or(spec);
                worker.process.say(&ToWorker::Load { load, spec }, &[]);
                if let Some(pending) = self.loads.pending.get_mut(&load) {
                    pending.waiting_for.insert(id);
                }
            }
        }
        self.ready_if_loaded(id);
    }

    /// A worker answered a loading.
    pub(super) fn loaded(&mut self, id: u64, load: u64, result: Answer) {
        let Some(pending) = self.loads.pending.get_mut(&load) else {
            if self.is_new(id) {
                return self.new_one_loaded(load, result);
            }
            // Of one that takes another's place: it serves the other programs.
            if let (Err(fault), Some(worker)) = (result, self.workers.get_mut(&id))
                && self.loads.specs.contains_key(&load)
            {
                tracing::error!(
                    target: "tower_dspy",
                    pid = worker.process.pid(),
                    python_type = %fault.python_type,
                    "a worker could not load a program that others could"
                );
                tracing::debug!(target: "tower_dspy::python", "{}", fault.traceback);
                worker.lacks.insert(load, fault);
            }
            self.ready_if_loaded(id);
            return;
        };
        pending.waiting_for.remove(&id);
        if result.is_err() || pending.result.is_none() {
            pending.result = Some(result);
        }
        self.conclude(load);
        self.ready_if_loaded(id);
    }

    /// A worker has ended: it answers no loading.
    pub(super) fn not_loaded(&mut self, id: u64, reason: &str) {
        let waits = |(_, pending): &(&u64, &Pending)| pending.waiting_for.contains(&id);
        let pending = self.loads.pending.iter().filter(waits);
        let loads: Vec<u64> = pending.map(|(load, _)| *load).collect();
        for load in loads {
            // Not for the next worker to end of as well.
            self.loaded(id, load, Err(fault(reason)));
        }
    }

    /// A worker was to end: what it did not answer, the others do.
    pub(super) fn excuse(&mut self, id: u64) {
        let pending = self.loads.pending.iter_mut();
        let waited = pending.filter_map(|(load, p)| p.waiting_for.remove(&id).then_some(*load));
        for load in waited.collect::<Vec<_>>() {
            self.conclude(load);
        }
    }

    fn conclude(&mut self, load: u64) {
        let failed = |pending: &Pending| matches!(pending.result, Some(Err(_)));
        let over = |pending: &Pending| pending.waiting_for.is_empty() || failed(pending);
        if !self.loads.pending.get(&load).is_some_and(over) {
            return;
        }
        let Some(pending) = self.loads.pending.remove(&load) else {
            return;
        };
        if failed(&pending) {
            self.loads.specs.remove(&load);
        }
        if let Some(mut result) = pending.result {
            if let Ok(told) = &result {
                self.loads.fields.insert(load, fields(told));
            }
            if let Ok(Value::Object(program)) = &mut result {
                program.insert("id".into(), load.into());
            }
            let queue = &self.core.queue;
            let loaded = result.map(|loaded| queue.register_program(loaded, pending.registrations));
            // If whoever asked has gone, the program goes as well.
            let _ = pending.reply.send(loaded);
        }
    }

    /// Nobody calls a program any more.
    pub(super) fn unload(&mut self, load: u64) {
        self.loads.specs.remove(&load);
        self.loads.fields.remove(&load);
        // Those that are about to end may still have calls of it.
        let stays = |worker: &&mut Worker| worker.state != WorkerState::Retiring;
        for worker in self.workers.values_mut().filter(stays) {
            worker.lacks.remove(&load);
            for lm in worker.adopted.remove(&load).unwrap_or_default() {
                worker.lms.remove(&lm);
            }
            if let Some(target) = worker.targets.remove(&load) {
                worker.process.say(&ToWorker::Unload { target }, &[]);
            }
        }
    }

    /// A worker that has all programs takes calls.
    fn ready_if_loaded(&mut self, id: u64) {
        if self.is_new(id) {
            return self.swap_if_loaded();
        }
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let has_all = self.loads.has_all(worker);
        if worker.asked && worker.state == WorkerState::Starting && has_all {
            worker.state = WorkerState::Ready;
            worker.ready_since = clock::now();
            self.relieve();
            self.publish();
            self.started_if_full();
        }
    }
}
