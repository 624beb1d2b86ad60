//! The launch of the interpreter on a thread of its own.

use std::{path::PathBuf, sync::Arc, thread::Builder};

use rustix::process::{Resource, getrlimit};
use tokio::sync::oneshot;

use super::{interpreter, port_state::PortState, settings::Embedded};
use crate::host::{
    core::{host_core::HostCore, host_thread::HostThread, loop_monitor::LoopMonitor},
    start_error::StartError,
};

/// The stack of a main thread on Linux by default.
const LEAST_STACK: usize = 8 << 20;

/// Starts the interpreter of `python`, the program of a venv, and waits until its loop runs.
pub(in crate::host) async fn launch(
    settings: Embedded,
    python: PathBuf,
    core: HostCore,
    monitor: Arc<LoopMonitor>,
) -> Result<HostThread, StartError> {
    let (ready, started) = oneshot::channel();
    let builder = Builder::new()
        .name("tower-dspy-python".into())
        .stack_size(stack_size());
    let queue = core.queue.clone();
    let thread = HostThread::spawn(builder, queue, "its thread ended", move || {
        interpreter::run(&settings, &python, PortState::new(core, monitor), ready);
    })
    .map_err(StartError::interpreter)?;
    let ended = |_| Err(StartError::interpreter("its thread ended"));
    started.await.unwrap_or_else(ended)?;
    Ok(thread)
}

/// The stack size that the main thread of a Python process has. Programs that raise the recursion
/// limit rely on it: an overflow ends the process.
fn stack_size() -> usize {
    let limit = getrlimit(Resource::Stack).current;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    limit.unwrap_or(LEAST_STACK).max(LEAST_STACK)
}
