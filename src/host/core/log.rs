//! Python's log records as tracing events.
//!
//! DSPy's messages may repeat prompts, so they appear at debug level, whatever level they had.

use super::fault::Fault;

/// The loggers whose warnings are this crate's own and hold no prompt: of features that this DSPy
/// lacks, and of a program's changes to the process's signals.
const OWN: [&str; 2] = ["tower_dspy.startup", "tower_dspy.signals"];

/// Logs a record of Python's `logging`.
pub(crate) fn forward(level: u32, logger: &str, message: &str) {
    if OWN.contains(&logger) && level >= 30 {
        tracing::warn!(target: "tower_dspy::python", "{message}");
        return;
    }
    let level = match level {
        40.. => "error",
        30..40 => "warning",
        20..30 => "info",
        _ => "debug",
    };
    tracing::debug!(target: "tower_dspy::python", level, logger, "{message}");
}

/// Logs a failure in this crate's Python code that belongs to no call.
pub(crate) fn python_failed(fault: &Fault) {
    tracing::error!(
        target: "tower_dspy::python",
        python_type = %fault.python_type,
        "the runner failed; the traceback is at debug level"
    );
    tracing::debug!(target: "tower_dspy::python", "{}", fault.traceback);
}
