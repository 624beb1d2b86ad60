//! The error of a host's start.

use std::fmt;

use crate::host::{core::fault::Fault, env::EnvError};

/// A host did not start.
///
/// `Debug` prints the message as `Display` does, so that it is readable where it comes out of `main`.
#[derive(thiserror::Error)]
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

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_readable_as_it_comes_out_of_main() {
        let error = StartError::Python {
            python_type: "ImportError".into(),
            message: "no module `numpy`".into(),
            traceback: "Traceback (most recent call last):\n  File \"x.py\", line 1".into(),
        };
        let lines = "DSPy did not start: ImportError: no module `numpy`\n\
                     Traceback (most recent call last):\n  File \"x.py\", line 1";
        assert_eq!(format!("{error:?}"), lines);
        let boxed: Box<dyn std::error::Error> = Box::new(error);
        assert_eq!(format!("{boxed:?}"), lines);
    }
}
