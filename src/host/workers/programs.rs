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
    lost_calls::refusal,
    numbers::{Generation, LoadId, WorkerId, WorkerTarget},
    program_action::{LoadAnswer, LoadedProgram, ProgramAction},
    replacements::{Replacements, check_fields},
    worker_programs::{UNKNOWN, WorkerPrograms},
};
use crate::host::core::fault::Fault;

type Actions<L, R> = Vec<ProgramAction<L, R>>;

/// The programs of a pool.
pub(super) struct Programs<L, R> {
    last_load: u64,
    programs: BTreeMap<LoadId, Program<L>>,
    workers: BTreeMap<WorkerId, WorkerPrograms>,
    replacements: Replacements<R>,
}

/// A program, for all workers.
struct Program<L> {
    spec: Arc<Value>,
    /// Who asked for the load, until it is answered.
    request: Option<L>,
    /// By the first worker that loaded it.
    description: Option<Value>,
}

impl<L, R> Default for Programs<L, R> {
    fn default() -> Self {
        Self {
            last_load: 0,
            programs: BTreeMap::new(),
            workers: BTreeMap::new(),
            replacements: Replacements::default(),
        }
    }
}

impl<L, R> Programs<L, R> {
    /// The generation that calls go to.
    pub(super) const fn serving(&self) -> Generation {
        self.replacements.serving
    }

    /// The generation of the replacement that is under way.
    pub(super) fn replacing(&self) -> Option<Generation> {
        let current = self.replacements.current.as_ref();
        current.map(|current| current.generation)
    }

    /// Whether a worker belongs to the replacement that is under way.
    pub(super) fn is_replacing(&self, worker: WorkerId) -> bool {
        let worker = self.workers.get(&worker);
        worker.is_some_and(|worker| Some(worker.generation) == self.replacing())
    }

    /// Whether a worker loads a program.
    pub(super) fn is_loading(&self, worker: WorkerId) -> bool {
        let worker = self.workers.get(&worker);
        worker.is_some_and(|worker| worker.loading().next().is_some())
    }

    /// Whether a worker has loaded all programs, or failed to.
    pub(super) fn has_all(&self, worker: WorkerId) -> bool {
        let Some(worker) = self.workers.get(&worker) else {
            return false;
        };
        let mut loads = self.programs.keys();
        loads.all(|load| worker.has_answered(*load))
    }

    /// The worker's number of a program, or why it has none.
    pub(super) fn target(&self, worker: WorkerId, load: LoadId) -> Result<WorkerTarget, &str> {
        let worker = self.workers.get(&worker).ok_or(UNKNOWN)?;
        worker.target(load)
    }

    /// A worker was started.
    pub(super) fn spawned(&mut self, worker: WorkerId, generation: Generation) {
        let programs = WorkerPrograms::new(generation);
        self.workers.insert(worker, programs);
    }

    /// Loads a program in these workers, and in each that is started later.
    pub(super) fn load(&mut self, spec: Value, request: L, workers: &[WorkerId]) -> Actions<L, R> {
        self.last_load += 1;
        let (load, spec) = (LoadId(self.last_load), Arc::new(spec));
        let program = Program {
            spec: spec.clone(),
            request: Some(request),
            description: None,
        };
        self.programs.insert(load, program);
        let mut actions = Vec::new();
        for &worker in workers {
            actions.push(self.begin(worker, load, spec.clone()));
        }
        actions
    }

    /// Loads all programs in a worker that has none yet.
    pub(super) fn load_all(&mut self, worker: WorkerId) -> Actions<L, R> {
        let is_new = self.is_replacing(worker);
        let replacement = self.replacements.current.as_ref().filter(|_| is_new);
        let specs = self.programs.iter().map(|(&load, program)| {
            let replaced = replacement.filter(|current| current.load == load);
            let spec = replaced.map_or(&program.spec, |current| &current.spec);
            (load, spec.clone())
        });
        let mut actions = Vec::new();
        for (load, spec) in specs.collect::<Vec<_>>() {
            actions.push(self.begin(worker, load, spec));
        }
        actions
    }

    /// Begins a load in a worker.
    fn begin(&mut self, worker: WorkerId, load: LoadId, spec: Arc<Value>) -> ProgramAction<L, R> {
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.begin(load);
        }
        ProgramAction::Load { worker, load, spec }
    }

    /// A worker has answered a load.
    ///
    /// Until the load is answered, a failure fails it in all workers. Later, a failure concerns this
    /// worker alone: it takes calls of the programs that it has loaded, and tries this one again after
    /// a pause. In a worker of a replacement, a failure ends the replacement.
    pub(super) fn answered(
        &mut self,
        worker: WorkerId,
        load: LoadId,
        answer: LoadAnswer,
        now: Duration,
    ) -> Actions<L, R> {
        let is_new = self.is_replacing(worker);
        let Some(programs) = self.workers.get_mut(&worker) else {
            return Vec::new(); // discarded
        };
        let Some(program) = self.programs.get_mut(&load) else {
            // Unloaded meanwhile, or another worker could not load it.
            let loaded = answer.ok();
            return Vec::from_iter(loaded.map(|(target, _)| unload(worker, load, target)));
        };
        let (target, result) = match answer {
            Ok((target, description)) => (Some(target), description),
            Err(fault) => (None, Err(fault)),
        };
        programs.answered(load, target);
        if program.request.is_some() {
            return match result {
                Ok(description) => {
                    program.description.get_or_insert(description);
                    Vec::from_iter(self.conclude(load))
                }
                Err(fault) => self.fail_load(load, fault),
            };
        }
        let current = self.replacements.current.as_ref();
        let is_checked = !is_new || current.is_some_and(|current| current.load == load);
        let checked = result.and_then(|description| match &program.description {
            Some(before) if is_checked => check_fields(before, &description),
            _ => Ok(()),
        });
        match checked {
            Ok(()) => Vec::new(),
            Err(fault) if is_new => self.fail_replacement(fault),
            Err(fault) => {
                programs.lack(load, fault.clone(), now);
                let unload = target.map(|target| unload(worker, load, target));
                let lacks = ProgramAction::Lacks { worker, fault };
                unload.into_iter().chain([lacks]).collect()
            }
        }
    }

    /// Loads the programs again that workers could not load, once the pause of each is over.
    pub(super) fn retry(&mut self, now: Duration) -> Actions<L, R> {
        let serving = self.serving();
        let workers = self.workers.iter_mut();
        let mut actions = Vec::new();
        for (&worker, programs) in workers.filter(|(_, of)| of.generation == serving) {
            for load in programs.begin_retries(now) {
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
        let is_new = self.is_replacing(worker);
        let mut actions = Vec::new();
        let Some(programs) = self.workers.remove(&worker) else {
            return actions;
        };
        for load in programs.loading() {
            actions.extend(self.fail_load(load, fault.clone()));
        }
        if is_new {
            actions.extend(self.fail_replacement(fault.clone()));
        }
        actions
    }

    /// Forgets a worker that was ended by the pool: the others answer its loads.
    pub(super) fn forget(&mut self, worker: WorkerId) -> Actions<L, R> {
        self.workers.remove(&worker);
        let loads: Vec<_> = self.programs.keys().copied().collect();
        let concluded = loads.into_iter().filter_map(|load| self.conclude(load));
        concluded.collect()
    }

    /// Answers a load once all workers that try it have succeeded. If none has answered, the next
    /// worker that comes up gives the answer.
    fn conclude(&mut self, load: LoadId) -> Option<ProgramAction<L, R>> {
        if self.workers.values().any(|worker| worker.is_loading(load)) {
            return None;
        }
        let program = self.programs.get_mut(&load)?;
        let description = program.description.clone()?;
        let request = program.request.take()?;
        let result = Ok(LoadedProgram { load, description });
        Some(ProgramAction::Loaded { request, result })
    }

    /// Answers a load that has failed in one worker, and could end the others too.
    fn fail_load(&mut self, load: LoadId, fault: Fault) -> Actions<L, R> {
        let program = self.programs.get_mut(&load);
        let Some(request) = program.and_then(|program| program.request.take()) else {
            return Vec::new();
        };
        let mut actions = self.unload(load, |_| true);
        let result = Err(fault);
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
        let unloaded = remaining.filter_map(|(&worker, of)| {
            let target = of.remove(load)?;
            Some(unload(worker, load, target))
        });
        unloaded.collect()
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
        let current = self.replacements.current.as_ref();
        current.map(|current| &current.request)
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
        let Some(current) = self.replacements.current.take() else {
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
        self.replacements.current = None;
        self.replacements.waiting.clear();
    }
}

const fn unload<L, R>(worker: WorkerId, load: LoadId, target: WorkerTarget) -> ProgramAction<L, R> {
    ProgramAction::Unload {
        worker,
        load,
        target,
    }
}

#[cfg(test)]
mod tests;
