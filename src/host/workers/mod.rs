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
mod heartbeat;
mod life;
mod lifecycle;
mod lost_calls;
mod numbers;
mod pool;
mod process;
mod program_action;
mod program_supervision;
mod programs;
mod recycle;
mod replacements;
mod requests;
mod scheduler;
mod settings;
mod start;
mod stats;
mod supervisor;
mod time_limits;
mod wire;
mod worker;
mod worker_programs;

pub use life::WorkerState;
pub use settings::Workers;
pub use stats::{EndedWorker, WorkerProcess, WorkerStats};
#[cfg(fuzzing)]
pub use wire::decode_worker_bytes;

pub(super) use handle::PoolHandle;
