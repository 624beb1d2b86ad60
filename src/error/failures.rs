//! The errors that the service raises: each says what happened, to what, and what to do.

use std::{fmt, time::Duration};

use super::ErrorKind;

/// The service has as many calls as it may have, and as many waiting; or its host has given up so
/// many threads that sync programs are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{program}` {why}")]
pub struct Overloaded {
    program: Box<str>,
    why: Box<str>,
}

impl Overloaded {
    #[cfg(feature = "python")]
    pub(crate) fn full(program: &str, max_in_flight: usize, max_waiting: usize) -> Self {
        let why = format!(
            "already has {max_in_flight} calls in flight and {max_waiting} waiting; \
             try again later, or raise `max_in_flight` or `max_waiting`"
        );
        Self {
            program: program.into(),
            why: why.into(),
        }
    }

    /// `threads` that do not stop were given up, and no more may be.
    #[cfg(feature = "python")]
    pub(crate) fn abandoned(program: &str, threads: u64) -> Self {
        let why = format!(
            "is sync and {threads} threads of the host's do not stop; try again later or \
             elsewhere, start the process anew if that lasts, or raise `max_abandoned`"
        );
        Self {
            program: program.into(),
            why: why.into(),
        }
    }
}

/// The inputs do not fit the program's schema. Nothing ran and no LM was called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; `{program}` expects {expected}")]
pub struct InvalidInput {
    program: Box<str>,
    field: Option<Box<str>>,
    problem: Box<str>,
    expected: Box<str>,
}

impl InvalidInput {
    #[cfg(feature = "python")]
    pub(crate) fn new(
        program: &str,
        field: Option<&str>,
        problem: impl Into<Box<str>>,
        expected: impl Into<Box<str>>,
    ) -> Self {
        Self {
            program: program.into(),
            field: field.map(Into::into),
            problem: problem.into(),
            expected: expected.into(),
        }
    }

    /// The input field that is wrong; `None` if the inputs as a whole are.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// What the program expects instead.
    #[must_use]
    pub fn expected(&self) -> &str {
        &self.expected
    }
}

/// A Python exception that the program raised.
///
/// `Display` gives its type and message, which may repeat what the program was asked.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("the program raised {python_type}: {message}")]
pub struct ProgramError {
    python_type: Box<str>,
    message: Box<str>,
    traceback: Box<str>,
}

impl ProgramError {
    /// An exception of `python_type`, as a mock in a test raises one.
    pub fn new(
        python_type: impl Into<Box<str>>,
        message: impl Into<Box<str>>,
        traceback: impl Into<Box<str>>,
    ) -> Self {
        Self {
            python_type: python_type.into(),
            message: message.into(),
            traceback: traceback.into(),
        }
    }

    /// The qualified name of the exception's class, such as `ValueError` or `my_pkg.NoAnswer`.
    #[must_use]
    pub fn python_type(&self) -> &str {
        &self.python_type
    }

    /// The exception's message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The traceback as Python prints it, causes included.
    #[must_use]
    pub fn traceback(&self) -> &str {
        &self.traceback
    }
}

/// Leaves the message and the traceback to those who ask for them.
impl fmt::Debug for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgramError")
            .field("python_type", &self.python_type)
            .finish_non_exhaustive()
    }
}

/// The LM failed, as DSPy reported it.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("the LM call failed with {python_type}{}: {message}", Status(*.status))]
pub struct LmError {
    python_type: Box<str>,
    message: Box<str>,
    status: Option<u16>,
    retry_after: Option<Duration>,
}

impl LmError {
    /// A failure as a mock in a test raises one; `status` is the HTTP status, if there was an
    /// answer.
    pub fn new(
        python_type: impl Into<Box<str>>,
        message: impl Into<Box<str>>,
        status: Option<u16>,
        retry_after: Option<Duration>,
    ) -> Self {
        Self {
            python_type: python_type.into(),
            message: message.into(),
            status,
            retry_after,
        }
    }

    /// The class of DSPy's exception, such as `LMRateLimitError`.
    #[must_use]
    pub fn python_type(&self) -> &str {
        &self.python_type
    }

    /// The exception's message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The HTTP status; `None` if no answer came.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        self.status
    }

    /// How long the provider asked to be left alone.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    pub(crate) const fn kind(&self) -> ErrorKind {
        Self::kind_of_status(self.status)
    }

    pub(crate) const fn kind_of_status(status: Option<u16>) -> ErrorKind {
        match status {
            // 408, 409, 425 and 429 say "not now", as server errors do; an answer that is said to be
            // one and cannot be read may come from whatever stands before the provider.
            None | Some(..=399 | 408 | 409 | 425 | 429 | 500..) => ErrorKind::LmUnavailable,
            Some(_) => ErrorKind::LmRejected,
        }
    }
}

/// Leaves the message, which may repeat the provider's body, to those who ask for it.
impl fmt::Debug for LmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LmError")
            .field("python_type", &self.python_type)
            .field("status", &self.status)
            .field("retry_after", &self.retry_after)
            .finish_non_exhaustive()
    }
}

struct Status(Option<u16>);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .map_or(Ok(()), |status| write!(f, " (HTTP {status})"))
    }
}

/// The interpreter that was to run the call, or ran it, is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Python host is gone ({reason}); the call cannot be answered")]
pub struct Lost {
    reason: Box<str>,
}

impl Lost {
    #[cfg(feature = "python")]
    pub(crate) fn new(reason: impl Into<Box<str>>) -> Self {
        Self {
            reason: reason.into(),
        }
    }

    /// What became of the host.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}
