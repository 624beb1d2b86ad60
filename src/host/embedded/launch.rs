//! The launch of the interpreter on a thread of its own.

use std::{io, path::PathBuf, sync::Arc, thread::Builder};

use rustix::process::{Resource, getrlimit};
use tokio::sync::oneshot;

use super::{interpreter, port::Port, settings::Embedded};
use crate::host::{
    core::{host_core::HostCore, host_thread::HostThread, loop_monitor::LoopMonitor},
    start_error::StartError,
};

/// The stack of a main thread on Linux by default.
const LEAST_STACK: usize = 8 << 20;

/// An interpreter that runs.
pub(in crate::host) struct Launched {
    pub(in crate::host) core: HostCore,
    pub(in crate::host) monitor: Arc<LoopMonitor>,
    pub(in crate::host) thread: HostThread,
}

/// Starts the interpreter of `python`, the program of a venv.
pub(in crate::host) async fn launch(
    settings: Embedded,
    python: PathBuf,
) -> Result<Launched, StartError> {
    let system = |error: io::Error| StartError::Interpreter {
        reason: error.to_string(),
    };
    let core = HostCore::new(settings.max_abandoned).map_err(system)?;
    let monitor = Arc::<LoopMonitor>::default();
    let (ready, started) = oneshot::channel();
    let builder = Builder::new()
        .name("tower-dspy-python".into())
        .stack_size(stack_size());
    let port = Port::new(core.clone(), monitor.clone());
    let queue = core.queue.clone();
    let thread = HostThread::spawn(builder, queue, "its thread ended", move || {
        interpreter::run(&settings, &python, port, ready);
    })
    .map_err(system)?;
    match started.await {
        Ok(Ok(())) => Ok(Launched {
            core,
            monitor,
            thread,
        }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(StartError::Interpreter {
            reason: "its thread ended".into(),
        }),
    }
}

/// The stack size that the main thread of a Python process has. Programs that raise the recursion
/// limit rely on it: an overflow ends the process.
fn stack_size() -> usize {
    let limit = getrlimit(Resource::Stack).current;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    limit.unwrap_or(LEAST_STACK).max(LEAST_STACK)
}
