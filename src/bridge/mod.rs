//! The way into Python. The only place that names pyo3.
//!
//! One thread owns the interpreter and runs an asyncio loop. Everyone else reaches it through the
//! `inbox` and gets owned values back, so no tokio thread ever waits for the GIL and no
//! Python object leaves Python's threads.
//!
//! Async programs run on that loop, sync ones on threads of Python's that [`Embedded`] bounds.
//! Another looks after the loop: see [`Health`] for what it tells. What ends when a call does, and
//! what only counts as in flight until it ends by itself, is a table in the README.

pub mod env;

mod call;
mod clock;
mod convert;
mod counters;
mod drain;
mod dump;
mod embedded;
mod exchange;
mod fault;
mod ffi;
mod health;
mod host;
mod inbox;
mod interpreter;
mod linger;
mod listeners;
mod log;
mod port;
mod room;
mod runtime;
mod spending;
mod stats;
mod task_locals;
mod tool;
mod watchdog;

pub use embedded::{Embedded, StartError};
pub use health::Health;
pub use host::Host;
pub use stats::{HostStats, LmTotals};

pub(crate) use call::{Call, Outcome};
pub(crate) use fault::{Fault, FaultKind, lost};
pub(crate) use inbox::Held;
pub(crate) use spending::ProgramCounts;
