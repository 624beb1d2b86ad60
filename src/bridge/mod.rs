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

pub mod env;

mod call;
mod clock;
mod counters;
mod exchange;
mod fault;
mod health;
mod host;
mod http;
mod inbox;
mod log;
mod registry;
mod room;
mod running;
mod runtime;
mod spending;
mod start_error;
mod stats;
mod tool;
mod watchdog;

// Port 1: the interpreter in this process.
#[cfg(feature = "python")]
mod convert;
#[cfg(feature = "python")]
mod drain;
#[cfg(feature = "python")]
mod dump;
#[cfg(feature = "python")]
mod dumps;
#[cfg(feature = "python")]
mod embedded;
#[cfg(feature = "python")]
mod ffi;
#[cfg(feature = "python")]
mod install;
#[cfg(feature = "python")]
mod interpreter;
#[cfg(feature = "python")]
mod linger;
#[cfg(feature = "python")]
mod listeners;
#[cfg(feature = "python")]
mod opener;
#[cfg(feature = "python")]
mod port;
#[cfg(feature = "python")]
mod raised;
#[cfg(feature = "python")]
mod snapshot;
#[cfg(feature = "python")]
mod task_locals;
#[cfg(feature = "python")]
mod text;

// Port 2: worker processes.
#[cfg(feature = "workers")]
mod workers;

#[cfg(feature = "python")]
pub use embedded::Embedded;
pub use health::Health;
pub use host::Host;
pub use start_error::StartError;
pub use stats::{HostStats, LmTotals};
#[cfg(feature = "python")]
pub use task_locals::NoLoop;
#[cfg(feature = "workers")]
pub use workers::{WorkerProcess, WorkerState, WorkerStats, Workers};

pub(crate) use call::{Call, Outcome};
pub(crate) use fault::{Fault, FaultKind, lost};
pub(crate) use inbox::{Held, Loaded};
pub(crate) use registry::Leases;
pub(crate) use spending::ProgramCounts;
