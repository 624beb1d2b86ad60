//! The programs of a pool: what is loaded in which worker, and replacements.
//!
//! A program is loaded in every worker: those that are ready, and each that is started later. A
//! replacement loads the new program in new workers, beside the programs that stay, and these take
//! over all at once when each of them has all. New workers, because a process imports a module
//! once: a change on disk does not reach a process that had the module before.
//!
//! Invariants:
//! 1. A load is answered once: by its first failure, or when each worker that tries it has
//!    succeeded. A load that failed is given to no worker again.
//! 2. Calls go to workers of one generation, `serving`. It changes in one step, by `swap`.
//! 3. Whatever goes wrong before that step ends the new workers and changes nothing else.
//! 4. A replacement's generation is no other's: messages of discarded workers change nothing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::Value;

use super::{
    lacked::LackedPrograms,
    lost_calls::refusal,
    numbers::{Generation, LoadId, WorkerId, WorkerTarget},
    pending_loads::PendingLoads,
    program_action::{LoadAnswer, LoadedProgram, ProgramAction},
    replacements::{ProgramFields, Replacements, check_fields, fields},
};
use crate::host::core::fault::Fault;

type Actions<L, R> = Vec<ProgramAction<L, R>>;

/// The programs of a pool.
pub(super) struct Programs<L, R> {
    last_load: u64,
    programs: BTreeMap<LoadId, Program>,
    pending: PendingLoads<L>,
    workers: BTreeMap<WorkerId, WorkerPrograms>,
    replacements: Replacements<R>,
}

struct Program {
    spec: Arc<Value>,
    /// The inputs and outputs of the program that was loaded first.
    fields: Option<ProgramFields>,
}

/// The programs of one worker.
struct WorkerPrograms {
    generation: Generation,
    /// The worker's numbers of the programs.
    targets: BTreeMap<LoadId, WorkerTarget>,
    /// The programs that it could not load, though others could.
    lacks: LackedPrograms,
}

impl<L, R> Default for Programs<L, R> {
    fn default() -> Self {
        Self {
            last_load: 0,
            programs: BTreeMap::new(),
            pending: PendingLoads::default(),
            workers: BTreeMap::new(),
            replacements: Replacements::default(),
        }
    }
}

impl<L, R> Programs<L, R> {
    /// The generation that calls go to.
    pub(super) const fn serving(&self) -> Generation {
        self.replacements.serving()
    }

    /// The generation of the replacement that is under way.
    pub(super) fn replacing(&self) -> Option<Generation> {
        self.replacements
            .current()
            .map(|current| current.generation)
    }

    /// Whether a worker belongs to the replacement that is under way.
    pub(super) fn is_replacing(&self, worker: WorkerId) -> bool {
        let worker = self.workers.get(&worker);
        worker.is_some_and(|worker| Some(worker.generation) == self.replacing())
    }

    /// Whether the first answer to a load waits for this worker. A program that other workers have
    /// loaded before does not count.
    pub(super) fn owes_first_answer(&self, worker: WorkerId) -> bool {
        !self.pending.of_worker(worker).is_empty()
    }

    /// Whether a worker has loaded all programs, or failed to.
    pub(super) fn has_all(&self, worker: WorkerId) -> bool {
        let Some(worker) = self.workers.get(&worker) else {
            return false;
        };
        let mut loads = self.programs.keys();
        loads.all(|load| worker.targets.contains_key(load) || worker.lacks.contains(*load))
    }

    /// The worker's number of a program, or why it has none.
    pub(super) fn target(&self, worker: WorkerId, load: LoadId) -> Result<WorkerTarget, &str> {
        let unknown = "none of that name";
        let worker = self.workers.get(&worker).ok_or(unknown)?;
        if let Some(target) = worker.targets.get(&load) {
            return Ok(*target);
        }
        Err(worker.lacks.reason(load).unwrap_or(unknown))
    }

    /// A worker was started.
    pub(super) fn spawned(&mut self, worker: WorkerId, generation: Generation) {
        let programs = WorkerPrograms {
            generation,
            targets: BTreeMap::new(),
            lacks: LackedPrograms::default(),
        };
        self.workers.insert(worker, programs);
    }

    /// Loads a program in these workers, and in each that is started later.
    pub(super) fn load(&mut self, spec: Value, request: L, workers: &[WorkerId]) -> Actions<L, R> {
        self.last_load += 1;
        let (load, spec) = (LoadId(self.last_load), Arc::new(spec));
        let program = Program {
            spec: spec.clone(),
            fields: None,
        };
        self.programs.insert(load, program);
        self.pending.insert(load, request, workers);
        let workers = workers.iter().map(|&worker| ProgramAction::Load {
            worker,
            load,
            spec: spec.clone(),
        });
        workers.collect()
    }

    /// Loads all programs in a worker that has none yet.
    pub(super) fn load_all(&mut self, worker: WorkerId) -> Actions<L, R> {
        let is_new = self.is_replacing(worker);
        let replacement = self.replacements.current().filter(|_| is_new);
        let mut actions = Vec::new();
        for (&load, program) in &self.programs {
            let replaced = replacement.filter(|current| current.load == load);
            let spec = replaced.map_or(&program.spec, |current| &current.spec);
            actions.push(ProgramAction::Load {
                worker,
                load,
                spec: spec.clone(),
            });
            self.pending.wait_for(load, worker);
        }
        actions
    }

    /// A worker has answered a load.
    pub(super) fn answered(
        &mut self,
        worker: WorkerId,
        load: LoadId,
        answer: LoadAnswer,
        now: Duration,
    ) -> Actions<L, R> {
        if !self.workers.contains_key(&worker) {
            return Vec::new(); // discarded
        }
        let result = match answer {
            Ok((target, _)) if !self.programs.contains_key(&load) => {
                // Unloaded meanwhile, or another worker could not load it.
                return vec![ProgramAction::Unload {
                    worker,
                    load,
                    target: Some(target),
                }];
            }
            Ok((target, description)) => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.targets.insert(load, target);
                }
                description
            }
            Err(fault) => Err(fault),
        };
        if self.pending.contains(load) {
            self.answer_pending(worker, load, result)
        } else if self.is_replacing(worker) {
            self.answer_replacement(load, result)
        } else {
            self.answer_late(worker, load, result, now)
        }
    }

    fn answer_pending(
        &mut self,
        worker: WorkerId,
        load: LoadId,
        result: Result<Value, Fault>,
    ) -> Actions<L, R> {
        self.pending.answer(load, worker, result);
        self.conclude(load)
    }

    /// A worker of a replacement has answered.
    fn answer_replacement(&mut self, load: LoadId, result: Result<Value, Fault>) -> Actions<L, R> {
        let description = match result {
            Ok(description) => description,
            Err(fault) => return self.fail_replacement(fault),
        };
        let current = self.replacements.current();
        let checked = current
            .filter(|current| current.load == load)
            .and_then(|_| {
                let before = self.programs.get(&load)?.fields.as_ref()?;
                check_fields(before, &description).err()
            });
        checked.map_or_else(Vec::new, |fault| self.fail_replacement(fault))
    }

    /// A worker that takes another's place has answered. It serves the programs that it has, and
    /// tries again to load one that it lacks.
    fn answer_late(
        &mut self,
        worker: WorkerId,
        load: LoadId,
        result: Result<Value, Fault>,
        now: Duration,
    ) -> Actions<L, R> {
        let (Some(program), Some(programs)) =
            (self.programs.get(&load), self.workers.get_mut(&worker))
        else {
            return Vec::new();
        };
        let checked = result.and_then(|description| match &program.fields {
            Some(before) => check_fields(before, &description),
            None => Ok(()),
        });
        let Err(fault) = checked else {
            programs.lacks.remove(load);
            return Vec::new();
        };
        programs.lacks.failed(load, fault.clone(), now);
        let target = programs.targets.remove(&load).map(Some);
        let unload = target.map(|target| ProgramAction::Unload {
            worker,
            load,
            target,
        });
        let mut actions = Vec::from_iter(unload);
        actions.push(ProgramAction::Lacks { worker, fault });
        actions
    }

    /// Loads the programs again that workers could not load, once the pause of each is over.
    pub(super) fn retry(&mut self, now: Duration) -> Actions<L, R> {
        let serving = self.serving();
        let workers = self.workers.iter_mut();
        let workers = workers.filter(|(_, programs)| programs.generation == serving);
        let mut actions = Vec::new();
        for (&worker, programs) in workers {
            for load in programs.lacks.begin_retries(now) {
                if let Some(program) = self.programs.get(&load) {
                    let spec = program.spec.clone();
                    actions.push(ProgramAction::Load { worker, load, spec });
                }
            }
        }
        actions
    }

    /// A worker has exited unexpectedly: its loads have failed, and so has its replacement.
    pub(super) fn lost(&mut self, worker: WorkerId, fault: &Fault) -> Actions<L, R> {
        let mut actions = Vec::new();
        let is_new = self.is_replacing(worker);
        for load in self.pending.of_worker(worker) {
            actions.extend(self.answer_pending(worker, load, Err(fault.clone())));
        }
        self.workers.remove(&worker);
        if is_new {
            actions.extend(self.fail_replacement(fault.clone()));
        }
        actions
    }

    /// Forgets a worker that was ended by the pool: the others answer its loads.
    pub(super) fn forget(&mut self, worker: WorkerId) -> Actions<L, R> {
        self.workers.remove(&worker);
        let mut actions = Vec::new();
        for load in self.pending.of_worker(worker) {
            self.pending.forget(load, worker);
            actions.extend(self.conclude(load));
        }
        actions
    }

    /// Answers a load whose result is known.
    fn conclude(&mut self, load: LoadId) -> Actions<L, R> {
        let Some((request, result)) = self.pending.take_concluded(load) else {
            return Vec::new();
        };
        let mut actions = Vec::new();
        match &result {
            Ok(description) => {
                if let Some(program) = self.programs.get_mut(&load) {
                    program.fields = Some(fields(description));
                }
            }
            // A load that ended one worker could end the others too.
            Err(_) => actions = self.unload(load, |_| true),
        }
        let result = result.map(|description| LoadedProgram { load, description });
        actions.push(ProgramAction::Loaded { request, result });
        actions
    }

    /// Removes a program from the workers that `remains` holds for.
    pub(super) fn unload(
        &mut self,
        load: LoadId,
        remains: impl Fn(WorkerId) -> bool,
    ) -> Actions<L, R> {
        self.programs.remove(&load);
        let workers = self.workers.iter_mut();
        let remaining = workers.filter(|(worker, _)| remains(**worker));
        let unload = remaining.filter_map(|(&worker, programs)| {
            let lacked = programs.lacks.remove(load);
            let target = programs.targets.remove(&load);
            (lacked || target.is_some()).then_some(ProgramAction::Unload {
                worker,
                load,
                target,
            })
        });
        unload.collect()
    }

    /// Replaces a program, once the replacements before it have ended.
    pub(super) fn replace(&mut self, load: LoadId, spec: Value, request: R) -> Actions<L, R> {
        self.replacements.push(load, spec, request);
        self.next_replacement()
    }

    /// Begins the next replacement, unless one is under way.
    pub(super) fn next_replacement(&mut self) -> Actions<L, R> {
        let programs = &self.programs;
        let refused = self
            .replacements
            .begin_next(|load| programs.contains_key(&load));
        let refused = refused.into_iter().map(|request| {
            let fault = refusal("there is no such program to replace");
            ProgramAction::NotReplaced { request, fault }
        });
        refused.collect()
    }

    /// Who asked for the replacement that is under way.
    pub(super) fn replacement_request(&self) -> Option<&R> {
        self.replacements.current().map(|current| &current.request)
    }

    /// The new workers take over. `next_replacement` has to follow.
    pub(super) fn swap(&mut self) -> Option<R> {
        let current = self.replacements.swap()?;
        if let Some(program) = self.programs.get_mut(&current.load) {
            program.spec = current.spec;
        }
        Some(current.request)
    }

    /// Ends the replacement that is under way. The workers that serve go on to.
    pub(super) fn fail_replacement(&mut self, fault: Fault) -> Actions<L, R> {
        let Some(current) = self.replacements.take() else {
            return Vec::new();
        };
        let request = current.request;
        let mut actions = vec![ProgramAction::NotReplaced { request, fault }];
        let workers = self.workers.iter();
        let new = workers.filter(|(_, worker)| worker.generation == current.generation);
        for worker in new.map(|(worker, _)| *worker).collect::<Vec<_>>() {
            actions.push(ProgramAction::Discard { worker });
            actions.extend(self.forget(worker));
        }
        actions.extend(self.next_replacement());
        actions
    }

    /// Forgets all replacements: the pool stops.
    pub(super) fn stop(&mut self) {
        self.replacements.clear();
    }
}

#[cfg(test)]
mod tests;
