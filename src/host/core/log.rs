//! What Python logs, as tracing events.
//!
//! DSPy's messages may repeat prompts, so they appear at debug level, whatever level they had.

#[cfg(feature = "python")]
use super::fault::Fault;

/// The loggers whose warnings are this crate's own and hold no prompt: what this host has to do
/// without, and what a program does to the process's signals.
const OWN: [&str; 2] = ["tower_dspy.startup", "tower_dspy.signals"];

/// Hands a record of Python's `logging` on.
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

/// A failure in Python's room itself, which no call can be told of.
#[cfg(feature = "python")]
pub(crate) fn python_failed(fault: &Fault) {
    tracing::error!(
        target: "tower_dspy::python",
        python_type = %fault.python_type,
        "the runner failed; the traceback is at debug level"
    );
    tracing::debug!(target: "tower_dspy::python", "{}", fault.traceback);
}
