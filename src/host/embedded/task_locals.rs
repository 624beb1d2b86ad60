//! The loop of this process, for a user's own PyO3 code.

use std::sync::OnceLock;

use pyo3::prelude::*;
use pyo3_async_runtimes::TaskLocals;

static LOCALS: OnceLock<TaskLocals> = OnceLock::new();

/// Sets the loop, on Python's thread.
pub(super) fn set(event_loop: &Bound<'_, PyAny>) {
    LOCALS.get_or_init(|| TaskLocals::new(event_loop.clone()));
}

/// The loop; `None` before the host's start.
pub(in crate::host) fn task_locals() -> Option<TaskLocals> {
    LOCALS.get().cloned()
}
