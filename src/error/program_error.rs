//! [`ProgramError`]: an exception of the program.

use std::{fmt, sync::Arc};

use super::{
    Classify, Costs, ErrorKind,
    costs::{ErrorCosts, call_id_in_field, costs_in_field},
};
use crate::call::{CallId, Spent};

/// A Python exception that the program raised.
///
/// `Display` gives its type and message, which may repeat what the program was asked. Two are
/// equal when the exceptions are, whatever was [spent](Self::spent).
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("the program raised {}: {}", .0.python_type, .0.message)]
pub struct ProgramError(Box<ProgramErrorFields>);

#[derive(Clone, PartialEq, Eq)]
struct ProgramErrorFields {
    python_type: Box<str>,
    message: Box<str>,
    traceback: Box<str>,
    raised_at: Box<str>,
    spent: ErrorCosts,
}

impl ProgramError {
    /// An exception of `python_type`, as a mock in a test raises one.
    pub fn new(
        python_type: impl Into<Box<str>>,
        message: impl Into<Box<str>>,
        traceback: impl Into<Box<str>>,
    ) -> Self {
        Self(Box::new(ProgramErrorFields {
            python_type: python_type.into(),
            message: message.into(),
            traceback: traceback.into(),
            raised_at: Box::default(),
            spent: ErrorCosts::NONE,
        }))
    }

    /// The same, raised by this frame.
    #[cfg(feature = "_host")]
    pub(crate) fn with_raised_at(mut self, frame: Box<str>) -> Self {
        self.0.raised_at = frame;
        self
    }

    /// The qualified name of the exception's class, such as `ValueError` or `my_pkg.NoAnswer`.
    #[must_use]
    pub fn python_type(&self) -> &str {
        &self.0.python_type
    }

    /// The exception's message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The traceback as Python prints it, causes included.
    #[must_use]
    pub fn traceback(&self) -> &str {
        &self.0.traceback
    }

    /// The innermost frame of the program's own code that raised the exception, as
    /// `file:line function`; `None` if it is not known, as of an error from another process.
    #[must_use]
    pub fn raised_at(&self) -> Option<&str> {
        Some(&*self.0.raised_at).filter(|frame| !frame.is_empty())
    }
}

impl Classify for ProgramError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Program
    }
}

costs_in_field!(ProgramError, 0.spent);

/// A sentence without the message and the traceback, which may repeat a prompt.
impl fmt::Debug for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the program raised {}", self.0.python_type)?;
        if let Some(frame) = self.raised_at() {
            write!(f, " at {frame}")?;
        }
        f.write_str(
            "; its message is in `Display`, its traceback in `ProgramError::traceback` and in the log \
             at debug",
        )
    }
}
