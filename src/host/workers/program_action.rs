//! The actions that the programs of a pool return, and the answers that they take.

use std::sync::Arc;

use serde_json::Value;

use super::numbers::{LoadId, WorkerId, WorkerTarget};
use crate::host::core::fault::Fault;

/// What the pool has to do about programs. `L` stands for who asked for a load, `R` for who asked
/// for a replacement.
#[derive(Debug, PartialEq)]
pub(super) enum ProgramAction<L, R> {
    /// Send the program to the worker.
    Load {
        worker: WorkerId,
        load: LoadId,
        spec: Arc<Value>,
    },
    /// Remove the program from the worker.
    Unload {
        worker: WorkerId,
        load: LoadId,
        target: WorkerTarget,
    },
    /// Answer a load.
    Loaded {
        request: L,
        result: Result<LoadedProgram, Fault>,
    },
    /// Log that a worker serves without a program.
    Lacks { worker: WorkerId, fault: Fault },
    /// End a worker of a replacement that failed.
    Discard { worker: WorkerId },
    /// Answer a replacement that failed.
    NotReplaced { request: R, fault: Fault },
}

/// A program that all workers have loaded.
#[derive(Debug, PartialEq)]
pub(super) struct LoadedProgram {
    pub(super) load: LoadId,
    pub(super) description: Value,
}

/// The answer of a worker to a load: its number of the program, and the program's description.
pub(super) type LoadAnswer = Result<(WorkerTarget, Result<Value, Fault>), Fault>;
