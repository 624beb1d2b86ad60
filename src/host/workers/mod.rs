//! Programs in worker processes.
//!
//! A pool keeps N child processes of the venv's own Python. Each runs the same runner as the
//! embedded interpreter does, and exchanges frames with the pool's thread over a socket. LM calls
//! are made by this process, with its layers, limits and keys.
//!
//! Invariants:
//! 1. A call is in one worker, from its start until it is settled; the exit of a worker settles all
//!    calls that it had, and each of them has an outcome.
//! 2. What ends a call closes its LM connections here, before its worker is told.
//! 3. A worker ends with this process, and all that it started ends with it.

mod backoff;
mod calls;
mod exchanges;
mod frames;
mod handle;
mod handshake;
mod heartbeat;
mod lacked;
mod lifecycle;
mod lost_calls;
mod messages;
mod numbers;
mod own_lms;
mod pending_loads;
mod phase;
mod pool;
mod pool_settings;
mod process;
mod program_action;
mod programs;
mod recycle;
mod replacements;
mod requests;
mod scheduler;
mod start;
mod stats;
mod supervisor;
mod wire;
mod worker;

#[cfg(fuzzing)]
pub use messages::decode_worker_bytes;
pub use phase::WorkerState;
pub use start::Workers;
pub use stats::{WorkerProcess, WorkerStats};

pub(super) use handle::PoolHandle;
