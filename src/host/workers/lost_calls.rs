//! The outcome of the calls and loads of a worker that has ended.

use crate::host::core::{
    fault::{Fault, FaultKind},
    running_call::RunningCall,
};

/// The outcome of a call or a load whose worker has ended, or could not do its part.
pub(super) fn worker_fault(reason: &str) -> Fault {
    Fault {
        kind: FaultKind::Lost,
        ..Fault::new("", reason)
    }
}

/// The outcome of a replacement that no worker was asked for.
pub(super) fn refusal(reason: &str) -> Fault {
    Fault::named("replacement", reason)
}

/// The description of an exit.
pub(super) fn exit_reason(pid: Option<u32>, why: &str) -> String {
    match pid {
        Some(pid) => format!("the worker process {pid} is gone: {why}"),
        None => format!("a worker process was not started: {why}"),
    }
}

/// Ends a call whose worker has exited: all its work has ended as well.
pub(super) fn end_call(running: &RunningCall, reason: &str) {
    let fault = if running.state.is_cancelled() {
        Fault {
            kind: FaultKind::Cancelled,
            ..Fault::new("", reason)
        }
    } else {
        worker_fault(reason)
    };
    running.finish(Err(fault));
}
