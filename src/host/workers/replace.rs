//! Replacing a program: new workers load it anew, beside the programs that stay, and take over all
//! at once when each of them has all. What runs goes on where it is.
//!
//! New workers, because a process imports a module once: what has changed on disk reaches no
//! process that had it before.
//!
//! Invariants:
//! 1. Calls go to workers of one generation, the pool's. It changes in one step, by `swap`.
//! 2. Whatever goes wrong before that step ends the new workers and changes nothing else.

use std::collections::VecDeque;

use serde_json::Value;
use tokio::sync::oneshot;

use super::{WorkerState, fault, pool::Pool};
use crate::host::core::{
    clock,
    fault::{Fault, FaultKind},
    registry::Registrations,
};

/// A program that is to be replaced.
pub(super) struct Replacement {
    target: u64,
    spec: Value,
    registrations: Registrations,
    taken_over: Box<dyn FnOnce(Registrations) + Send>,
    reply: oneshot::Sender<Result<(), Fault>>,
}

impl Replacement {
    pub(super) const fn new(
        target: u64,
        spec: Value,
        registrations: Registrations,
        taken_over: Box<dyn FnOnce(Registrations) + Send>,
        reply: oneshot::Sender<Result<(), Fault>>,
    ) -> Self {
        Self {
            target,
            spec,
            registrations,
            taken_over,
            reply,
        }
    }
}

/// The one that is under way, and those that wait for its end.
#[derive(Default)]
pub(super) struct Replacements {
    pub(super) current: Option<Replacement>,
    waiting: VecDeque<Replacement>,
}

impl Replacements {
    /// How the program `load` is loaded by new workers.
    pub(super) fn spec(&self, load: u64) -> Option<&Value> {
        let current = self.current.as_ref();
        let current = current.filter(|current| current.target == load);
        current.map(|current| &current.spec)
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

impl Pool {
    pub(super) fn replace(&mut self, replacement: Replacement) {
        self.replacements.waiting.push_back(replacement);
        self.next_replacement();
    }

    fn next_replacement(&mut self) {
        while self.replacements.current.is_none() {
            let Some(next) = self.replacements.waiting.pop_front() else {
                return;
            };
            if self.loads.has(next.target) {
                self.replacements.current = Some(next);
                self.fill(clock::now());
            } else {
                let unknown = fault("there is no such program to replace");
                let _ = next.reply.send(Err(unknown));
            }
        }
    }

    /// Whether a worker is one of the new ones.
    pub(super) fn is_new(&self, id: u64) -> bool {
        let worker = self.workers.get(&id);
        worker.is_some_and(|worker| worker.generation > self.generation)
    }

    /// A new worker has loaded a program, or has failed to.
    pub(super) fn new_one_loaded(&mut self, load: u64, result: Result<Value, Fault>) {
        let told = match result {
            Ok(told) => told,
            Err(fault) => return self.replacement_failed(fault),
        };
        if self.replacements.spec(load).is_some()
            && let Some(other) = self.loads.differs(load, &told)
        {
            return self.replacement_failed(Fault {
                kind: FaultKind::Named("schema".into()),
                ..Fault::new("", other)
            });
        }
        self.swap_if_loaded();
    }

    /// The new workers take over, if all of them have all programs.
    pub(super) fn swap_if_loaded(&mut self) {
        let next = self.generation + 1;
        let new = self.workers.values().filter(|w| w.generation == next);
        let has_all = new.filter(|worker| {
            worker.state == WorkerState::Starting && worker.asked && self.loads.has_all(worker)
        });
        if has_all.count() < self.wanted {
            return;
        }
        let Some(current) = self.replacements.current.take() else {
            return;
        };
        if current.reply.is_closed() {
            // Whoever asked has given up.
            return self.end_new_ones();
        }
        (current.taken_over)(current.registrations);
        self.loads.replace(current.target, current.spec);
        self.generation = next;
        let mut gone = vec![];
        for (id, worker) in &mut self.workers {
            match worker.state {
                WorkerState::Starting if worker.generation == next => {
                    worker.state = WorkerState::Ready;
                    worker.ready_since = clock::now();
                }
                WorkerState::Starting => {
                    worker.discard();
                    gone.push(*id);
                }
                WorkerState::Ready => worker.state = WorkerState::Retiring,
                WorkerState::Retiring | WorkerState::Ending => {}
            }
        }
        for id in gone {
            self.excuse(id);
        }
        self.publish();
        // Last: whoever hears it is served by the new program, and may name its LMs.
        let _ = current.reply.send(Ok(()));
        self.next_replacement();
    }

    /// The workers that serve go on to.
    pub(super) fn replacement_failed(&mut self, fault: Fault) {
        if let Some(current) = self.replacements.current.take() {
            let _ = current.reply.send(Err(fault));
            self.end_new_ones();
        }
    }

    fn end_new_ones(&mut self) {
        let mut gone = vec![];
        for (id, worker) in &mut self.workers {
            if worker.generation > self.generation {
                worker.discard();
                gone.push(*id);
            }
        }
        for id in gone {
            self.excuse(id);
        }
        self.next_replacement();
    }
}
