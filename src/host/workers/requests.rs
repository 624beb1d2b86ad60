//! The requests to load and to replace programs.

use tokio::sync::oneshot;

use super::{program_action::ProgramAction, programs::Programs};
use crate::host::core::{fault::Fault, queue::LoadOutcome, registry::Registrations};

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

/// What the programs of a pool return.
pub(super) type PoolActions = Vec<ProgramAction<LoadRequest, ReplaceRequest>>;
