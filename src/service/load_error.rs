//! [`LoadError`]: why a program was not loaded.

use crate::host::core::fault::{Fault, FaultKind};

/// A program that could not be loaded.
#[derive(Debug, thiserror::Error)]
#[error("`{target}` was not loaded: {problem}")]
pub struct LoadError {
    pub(super) target: String,
    pub(super) problem: String,
    pub(super) traceback: String,
}

impl LoadError {
    pub(super) fn new(target: &str, fault: Fault) -> Self {
        let problem = match fault.kind {
            #[cfg(feature = "workers")]
            FaultKind::Lost => fault.message,
            FaultKind::Named(_) => fault.message,
            _ => format!("{}: {}", fault.python_type, fault.message),
        };
        Self {
            target: target.to_owned(),
            problem,
            traceback: fault.traceback,
        }
    }

    /// What was to be loaded.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Python's traceback, where loading raised; else empty.
    #[must_use]
    pub fn traceback(&self) -> &str {
        &self.traceback
    }
}
