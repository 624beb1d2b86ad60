//! The requests to load and to replace programs, and the answers to them.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::oneshot;

use super::{
    lifecycle::Lifecycle, program_action::ProgramAction, programs::Programs, stats::PoolCounts,
    wire::ToWorker, worker::WorkerTable,
};
use crate::host::core::{
    clock,
    fault::Fault,
    queue::{CommandQueue, LoadOutcome},
    registry::Registrations,
};

/// The programs of a pool, with who asked for them.
pub(super) type PoolPrograms = Programs<LoadRequest, ReplaceRequest>;

/// A request to load a program, and what it is loaded with.
pub(super) struct LoadRequest {
    pub(super) registrations: Registrations,
    pub(super) reply: oneshot::Sender<LoadOutcome>,
}

/// A request to replace a program, and what the new one is loaded with.
pub(super) struct ReplaceRequest {
    pub(super) registrations: Registrations,
    pub(super) taken_over: Box<dyn FnOnce(Registrations) + Send>,
    pub(super) reply: oneshot::Sender<Result<(), Fault>>,
}

/// Applies what [`Programs`] has returned.
pub(super) fn apply(
    actions: Vec<ProgramAction<LoadRequest, ReplaceRequest>>,
    workers: &mut WorkerTable,
    lifecycle: &mut Lifecycle,
    counts: &PoolCounts,
    queue: &Arc<CommandQueue>,
) {
    for action in actions {
        match action {
            ProgramAction::Load { worker, load, spec } => {
                let spec = &*spec;
                workers.send(worker, &ToWorker::Load { load, spec }, &[]);
            }
            ProgramAction::Unload {
                worker,
                load,
                target,
            } => {
                if let Some(target) = target {
                    workers.send(worker, &ToWorker::Unload { target }, &[]);
                }
                if let Some(worker) = workers.get_mut(worker) {
                    worker.own_lms.unloaded(load);
                }
            }
            ProgramAction::Loaded { request, result } => {
                let loaded = result.map(|loaded| {
                    // A host knows its program by the pool's number, not by a worker's.
                    let mut program = loaded.description;
                    if let Value::Object(program) = &mut program {
                        program.insert("id".into(), loaded.load.0.into());
                    }
                    queue.register_program(program, request.registrations)
                });
                // If nobody waits any more, the program goes as well.
                let _ = request.reply.send(loaded);
            }
            ProgramAction::Lacks { worker, fault } => {
                tracing::warn!(
                    target: "tower_dspy",
                    pid = workers.pid(worker),
                    python_type = %fault.python_type,
                    kind = ?fault.kind,
                    "a worker could not load a program that others could, and tries again"
                );
                tracing::debug!(target: "tower_dspy::python", "{}", fault.traceback);
            }
            ProgramAction::Discard { worker } => {
                workers.apply(counts, lifecycle.discard(worker, clock::now()));
            }
            ProgramAction::NotReplaced { request, fault } => {
                let _ = request.reply.send(Err(fault));
            }
        }
    }
}
