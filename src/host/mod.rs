//! The way into Python. The only place that names pyo3, and that by feature `python` only.
//!
//! There are two ports to one runner, `src/python/tower_dspy/runner.py`: the interpreter in this
//! process, and worker processes, by feature `workers`. The service cannot tell them apart.
//!
//! In this process, one thread owns the interpreter and runs an asyncio loop. Everyone else reaches it through the
//! `inbox` and gets owned values back, so no tokio thread ever waits for the GIL and no
//! Python object leaves Python's threads.
//!
//! Async programs run on that loop, sync ones on threads of Python's that [`Embedded`] bounds.
//! Another looks after the loop: see [`Health`] for what it tells. What ends when a call does, and
//! what only counts as in flight until it ends by itself, is a table in the README.

pub(crate) mod core;
#[cfg(feature = "python")]
mod embedded;
pub mod env;
mod handle;
mod sources;
mod start_error;
#[cfg(feature = "workers")]
mod workers;

pub use self::{
    core::{
        health::Health,
        stats::{HostStats, LmTotals},
        tool_definition::{Tool, ToolCall},
    },
    handle::Host,
    start_error::StartError,
};
#[cfg(feature = "python")]
pub use embedded::{Embedded, NoLoop};
#[cfg(feature = "workers")]
pub use workers::{WorkerProcess, WorkerState, WorkerStats, Workers};
