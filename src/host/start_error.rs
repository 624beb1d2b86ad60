//! The error of a host's start.

use crate::host::{core::fault::Fault, env::EnvError};

/// A host did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No venv fits.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// The interpreter did not start.
    #[error("the Python interpreter did not start: {reason}")]
    Interpreter {
        /// The message of CPython, or of the system.
        reason: String,
    },
    /// DSPy, or Python's side of this crate, did not start.
    #[error("DSPy did not start: {python_type}: {message}\n{traceback}")]
    Python {
        /// The exception's class.
        python_type: String,
        /// Its message.
        message: String,
        /// Its traceback.
        traceback: String,
    },
    /// The process has a host that was started with other settings.
    #[error(
        "this process already runs an embedded host that was started with other settings; \
         share that host, or start both with the same settings"
    )]
    Another,
    /// The process had a host.
    #[error(
        "this process had its embedded host ({reason}); an interpreter cannot be started twice, \
         so keep the host running as long as it is needed"
    )]
    Over {
        /// What became of it.
        reason: String,
    },
}

impl StartError {
    pub(super) fn interpreter(reason: impl ToString) -> Self {
        Self::Interpreter {
            reason: reason.to_string(),
        }
    }

    pub(super) fn python(fault: Fault) -> Self {
        Self::Python {
            python_type: fault.python_type.into(),
            message: fault.message,
            traceback: fault.traceback.into(),
        }
    }
}
