//! Python's log records as tracing events.
//!
//! The messages of DSPy, of its libraries and of programs may repeat prompts, so they appear at debug
//! level, whatever level they had; and without what looks like a key.

use super::fault::Fault;
use crate::{call::CallId, lm::without_keys};

/// The loggers whose warnings are this crate's own and hold no prompt: of features that this DSPy
/// lacks, and of a program's changes to the process's signals.
const OWN: [&str; 2] = ["tower_dspy.startup", "tower_dspy.signals"];

/// Whether the log has the debug level for what comes from Python.
pub(crate) fn is_debugged() -> bool {
    tracing::enabled!(target: "tower_dspy::python", tracing::Level::DEBUG)
}

/// Logs a record of Python's `logging`, made by the code of this call.
pub(crate) fn forward(level: u32, logger: &str, message: &str, call_id: Option<CallId>) {
    let call_id = call_id.map(CallId::get);
    if OWN.contains(&logger) && level >= 30 {
        tracing::warn!(target: "tower_dspy::python", call_id, "{message}");
        return;
    }
    if !is_debugged() {
        return;
    }
    let level = match level {
        40.. => "error",
        30..40 => "warning",
        20..30 => "info",
        _ => "debug",
    };
    let message = without_keys(message.trim_end());
    tracing::debug!(target: "tower_dspy::python", call_id, level, logger, "{message}");
}

/// Logs a failure in this crate's Python code that belongs to no call.
pub(crate) fn python_failed(fault: &Fault) {
    tracing::error!(
        target: "tower_dspy::python",
        python_type = %fault.python_type,
        "the runner failed; the traceback is at debug level"
    );
    tracing::debug!(target: "tower_dspy::python", "{}", without_keys(&fault.traceback));
}
