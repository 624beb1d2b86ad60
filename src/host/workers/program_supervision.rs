//! The loading, unloading and replacement of the pool's programs.

use serde_json::Value;

use super::{
    lost_calls::refusal,
    numbers::{LoadId, WorkerId},
    program_action::{LoadAnswer, ProgramAction},
    requests::{LoadRequest, PoolActions, ReplaceRequest},
    supervisor::Supervisor,
    wire::ToWorker,
};
use crate::{
    host::core::{clock, fault::Fault},
    lm::without_keys,
};

impl Supervisor {
    pub(super) fn load(&mut self, spec: Value, request: LoadRequest) {
        let workers = self.lifecycle.given_programs();
        let actions = self.programs.load(spec, request, &workers);
        self.apply_program_actions(actions);
    }

    pub(super) fn unload(&mut self, load: LoadId) {
        let lifecycle = &self.lifecycle;
        // A retiring worker may still have calls of it.
        let remains = |worker| !lifecycle.is_retiring(worker);
        let actions = self.programs.unload(load, remains);
        self.apply_program_actions(actions);
    }

    pub(super) fn replace(&mut self, load: LoadId, spec: Value, request: ReplaceRequest) {
        let actions = self.programs.replace(load, spec, request);
        self.apply_program_actions(actions);
    }

    /// A worker has imported DSPy, and can load programs.
    pub(super) fn on_up(&mut self, worker: WorkerId) {
        if self.lifecycle.came_up(worker) {
            let actions = self.programs.load_all(worker);
            self.apply_program_actions(actions);
            self.check_loaded(worker);
        }
    }

    /// A worker cannot import DSPy. It exits by itself.
    pub(super) fn on_unusable(&mut self, worker: WorkerId, fault: Fault) {
        if self.programs.is_replacing(worker) {
            let actions = self.programs.fail_replacement(fault);
            self.apply_program_actions(actions);
        } else {
            self.unusable(fault);
        }
    }

    /// A worker has answered a load.
    pub(super) fn on_loaded(&mut self, worker: WorkerId, load: LoadId, answer: LoadAnswer) {
        let actions = self.programs.answered(worker, load, answer, clock::now());
        self.apply_program_actions(actions);
        self.check_loaded(worker);
    }

    /// Has a worker take calls if it has all programs, or all workers of a replacement.
    fn check_loaded(&mut self, worker: WorkerId) {
        if self.programs.is_replacing(worker) {
            return self.swap_if_loaded();
        }
        if self.programs.has_all(worker) && self.lifecycle.loaded(worker, clock::now()) {
            self.publish();
            if self.lifecycle.is_full()
                && let Some(starting) = self.starting.take()
            {
                // If nobody waits any more, the pool's handle is gone, which stops it.
                let _ = starting.send(Ok(()));
            }
        }
    }

    /// Has the workers of a replacement take over, if all of them have all programs.
    fn swap_if_loaded(&mut self) {
        let has_all = |worker| self.programs.has_all(worker);
        let generation = self.programs.replacing();
        let Some(generation) = generation.filter(|g| self.lifecycle.can_swap(*g, has_all)) else {
            return;
        };
        let request = self.programs.replacement_request();
        if request.is_some_and(|request| request.reply.is_closed()) {
            let gone = refusal("nobody waits for the replacement");
            let actions = self.programs.fail_replacement(gone);
            return self.apply_program_actions(actions);
        }
        let Some(request) = self.programs.swap() else {
            return;
        };
        (request.taken_over)(request.registrations);
        for worker in self.lifecycle.swap(generation, clock::now()) {
            self.discard(worker);
            let actions = self.programs.forget(worker);
            self.apply_program_actions(actions);
        }
        self.publish();
        // Last: the caller that hears it is served by the new program, and may name its LMs.
        let _ = request.reply.send(Ok(()));
        let actions = self.programs.next_replacement();
        self.apply_program_actions(actions);
    }

    /// Applies what the programs have returned.
    pub(super) fn apply_program_actions(&mut self, actions: PoolActions) {
        for action in actions {
            match action {
                ProgramAction::Load { worker, load, spec } => {
                    if let Some(worker) = self.workers.get(&worker) {
                        let spec = &*spec;
                        worker.link.send(&ToWorker::Load { load, spec }, &[]);
                    }
                }
                ProgramAction::Unload {
                    worker,
                    load,
                    target,
                } => {
                    if let Some(worker) = self.workers.get_mut(&worker) {
                        worker.link.send(&ToWorker::Unload { target }, &[]);
                        worker.forget_lms(load);
                    }
                }
                ProgramAction::Loaded { request, result } => {
                    let loaded = result.map(|loaded| {
                        // A host knows its program by the pool's number, not by a worker's.
                        let mut program = loaded.description;
                        if let Value::Object(program) = &mut program {
                            program.insert("id".into(), loaded.load.0.into());
                        }
                        self.core
                            .queue
                            .register_program(program, request.registrations)
                    });
                    // If nobody waits any more, the program goes as well.
                    let _ = request.reply.send(loaded);
                }
                ProgramAction::Lacks { worker, fault } => {
                    tracing::warn!(
                        target: "tower_dspy",
                        pid = self.workers.get(&worker).and_then(|worker| worker.link.pid()),
                        python_type = %fault.python_type,
                        kind = ?fault.kind,
                        "a worker could not load a program that others could, and tries again"
                    );
                    tracing::debug!(target: "tower_dspy::python", "{}", without_keys(&fault.traceback));
                }
                ProgramAction::Discard { worker } => self.discard(worker),
                ProgramAction::NotReplaced { request, fault } => {
                    let _ = request.reply.send(Err(fault));
                }
            }
        }
    }
}
