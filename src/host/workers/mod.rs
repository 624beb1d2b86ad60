//! Port 2: programs in worker processes.
//!
//! A pool keeps N child processes of the venv's own Python. Each runs the same runner as the
//! embedded interpreter does, and is reached by frames on a socket. One thread of this process, the
//! pool's, drains the host's queue and hears all workers, so that nothing here is locked. LM calls
//! come back to this process, with its layers, limits and keys.
//!
//! # Who gets a call
//! The worker with the fewest, of those that have the program and are neither blocked nor about to
//! be replaced; the rank is [`worker::Worker::load`]. It is not tower's `Balance`, although each
//! worker could be a service with a `Load`: that draws two at random and takes the better one,
//! which is for many endpoints whose load is a guess, and asks for readiness before it knows the
//! request, so that a worker without this one program would have to count as not ready for any.
//! Here the pool's thread holds all calls of all workers anyway, to hand cancels and LM events to
//! the one that has the call: the count is at hand, exact, and of a few.
//!
//! Invariants:
//! 1. A call is in one worker, from its start until it is settled; a worker that ends settles all
//!    that it had, and each of them has an outcome.
//! 2. What ends a call closes its LM connections here, before its worker hears of it.
//! 3. A worker ends with this process, and all that it started ends with it.

mod births;
mod ends;
mod launch;
mod loads;
mod output;
mod pool;
mod process;
mod replace;
mod said;
mod start;
mod stats;
mod wear;
mod wire;
mod worker;
mod zygote;

pub use start::Workers;
pub use stats::{WorkerProcess, WorkerStats};
pub use worker::WorkerState;

pub(super) use stats::Roster;

use bytes::Bytes;

use crate::host::core::fault::{Fault, FaultKind};

/// What there is to hear of a process: of a worker, or of a zygote.
enum Told {
    /// It is there: it has a process id.
    Begun,
    Said(wire::FromWorker, Bytes),
    /// It said what cannot be understood, or hung up.
    Broken(String),
    /// It can fork workers; what is weaker with this DSPy.
    Warm(Vec<String>),
    CannotFork(String),
    /// DSPy cannot be imported.
    Unusable(Fault),
    /// The process has ended. Nothing comes after this.
    Ended(String),
}

/// The outcome of a call whose worker could not do its part.
fn fault(reason: &str) -> Fault {
    Fault {
        kind: FaultKind::Lost,
        ..Fault::new("", format!("the worker failed: {reason}"))
    }
}
