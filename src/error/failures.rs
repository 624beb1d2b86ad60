//! The errors that the service raises: each says what happened, to what, and what to do.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    Classify, Costs, ErrorKind,
    costs::{ErrorCosts, call_id_in_field, costs_in_field},
    debug_as_display,
};
use crate::call::{CallId, Spent};

/// The service has as many calls as it may have, and as many waiting; or its host has given up so
/// many threads that sync programs are refused.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` {}", .0.program, .0.why)]
pub struct Overloaded(Box<OverloadedFields>);

#[derive(Clone, PartialEq, Eq)]
struct OverloadedFields {
    program: Box<str>,
    why: Box<str>,
    retry_after: Option<Duration>,
    /// Only the id of the call: nothing was spent.
    call: ErrorCosts,
}

impl Overloaded {
    /// `program` has `max_in_flight` calls in flight, and `max_waiting` more wait: what a mock in a
    /// test answers then.
    #[must_use]
    pub fn new(program: &str, max_in_flight: usize, max_waiting: usize) -> Self {
        let why = format!(
            "already has {max_in_flight} calls in flight and {max_waiting} waiting; \
             try again later, or raise `max_in_flight` or `max_waiting`"
        );
        Self::saying(program, why)
    }

    /// One tenant has as many calls of `program` in flight as it may have.
    #[cfg(any(feature = "_host", feature = "test-util"))]
    pub(crate) fn tenant(program: &str, max_in_flight: usize) -> Self {
        let why = format!(
            "already has {max_in_flight} calls of this tenant in flight; try again later, or raise \
             `max_in_flight_per_tenant`"
        );
        Self::saying(program, why)
    }

    /// `threads` that do not stop were given up, and no more may be.
    #[cfg(feature = "_host")]
    pub(crate) fn abandoned(program: &str, threads: u64) -> Self {
        let why = format!(
            "is sync and {threads} threads of the host's do not stop; try again later or \
             elsewhere, start the process anew if that lasts, or raise `max_abandoned`"
        );
        Self::saying(program, why)
    }

    /// The server of `program` has too many calls.
    #[cfg(feature = "tonic")]
    pub(crate) fn remote(program: &str) -> Self {
        Self::saying(program, "has too many calls on its server".into())
    }

    fn saying(program: &str, why: String) -> Self {
        Self(Box::new(OverloadedFields {
            program: program.into(),
            why: why.into(),
            retry_after: None,
            call: ErrorCosts::NONE,
        }))
    }

    /// The same, with the time after which another try makes sense.
    #[must_use]
    pub fn with_retry_after(mut self, wait: impl Into<Option<Duration>>) -> Self {
        self.0.retry_after = wait.into();
        self
    }

    /// After what time another try makes sense, if that is known.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

impl Costs for Overloaded {
    fn carried(&self) -> Option<&ErrorCosts> {
        Some(&self.0.call)
    }

    fn carried_mut(&mut self) -> Option<&mut ErrorCosts> {
        Some(&mut self.0.call)
    }
}

call_id_in_field!(Overloaded, 0.call);

debug_as_display!(Overloaded, InvalidInput);

impl Classify for Overloaded {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Overloaded
    }

    fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    fn may_have_started(&self) -> bool {
        false
    }
}

/// The inputs do not fit the program's schema. Nothing ran and no LM was called.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}; `{}` expects {}", .0.problem, .0.program, .0.expected)]
pub struct InvalidInput(Box<InvalidInputFields>);

#[derive(Clone, PartialEq, Eq)]
struct InvalidInputFields {
    program: Box<str>,
    field: Option<Box<str>>,
    problem: Box<str>,
    expected: Box<str>,
    /// Only the id of the call: nothing was spent.
    call: ErrorCosts,
}

impl InvalidInput {
    /// A refusal as a mock in a test gives one: what is wrong, in which field if it is one, and
    /// what `program` expects instead.
    pub fn new(
        program: &str,
        field: Option<&str>,
        problem: impl Into<Box<str>>,
        expected: impl Into<Box<str>>,
    ) -> Self {
        Self(Box::new(InvalidInputFields {
            program: program.into(),
            field: field.map(Into::into),
            problem: problem.into(),
            expected: expected.into(),
            call: ErrorCosts::NONE,
        }))
    }

    /// The input field that is wrong; `None` if the inputs as a whole are.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    /// What is wrong.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.0.problem
    }

    /// What the program expects instead.
    #[must_use]
    pub fn expected(&self) -> &str {
        &self.0.expected
    }
}

impl Costs for InvalidInput {
    fn carried(&self) -> Option<&ErrorCosts> {
        Some(&self.0.call)
    }

    fn carried_mut(&mut self) -> Option<&mut ErrorCosts> {
        Some(&mut self.0.call)
    }
}

call_id_in_field!(InvalidInput, 0.call);

impl Classify for InvalidInput {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    fn may_have_started(&self) -> bool {
        false
    }
}

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

/// The LM failed, as DSPy reported it; also where the program let that failure out as the cause of an
/// exception of its own, or among others in a group.
///
/// Two are equal when the failures are, whatever was [spent](Self::spent).
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the LM call failed with {}{}: {}{}",
    .0.python_type,
    status_text(.0.status),
    .0.message.trim_end(),
    advice_text(.0.advice)
)]
pub struct LmError(Box<LmErrorFields>);

#[derive(Clone, PartialEq, Eq)]
struct LmErrorFields {
    python_type: Box<str>,
    message: Box<str>,
    status: Option<u16>,
    retry_after: Option<Duration>,
    rejected: bool,
    /// What the host's user can do about it.
    advice: Option<&'static str>,
    spent: ErrorCosts,
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
        Self(Box::new(LmErrorFields {
            python_type: python_type.into(),
            message: message.into(),
            status,
            retry_after,
            rejected: false,
            advice: None,
            spent: ErrorCosts::NONE,
        }))
    }

    /// The same as one that is not worth another try, whatever its status says: a quota that is used
    /// up comes as a 429 as well, and what DSPy itself refuses has no status.
    #[must_use]
    pub fn into_rejected(mut self) -> Self {
        self.0.rejected = true;
        self
    }

    /// The same, with what to do about it in terms of this crate.
    #[cfg(feature = "_host")]
    pub(crate) fn with_advice(mut self, advice: Option<&'static str>) -> Self {
        self.0.advice = advice;
        self
    }

    /// The class of DSPy's exception, such as `LMRateLimitError`; or the qualified name of that of
    /// the program's, if it wrapped the failure.
    #[must_use]
    pub fn python_type(&self) -> &str {
        &self.0.python_type
    }

    /// The exception's message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The HTTP status; `None` if no answer came.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// How long the provider asked to be left alone.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
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

impl Classify for LmError {
    fn kind(&self) -> ErrorKind {
        if self.0.rejected {
            return ErrorKind::LmRejected;
        }
        Self::kind_of_status(self.0.status)
    }

    fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

costs_in_field!(LmError, 0.spent);

/// A sentence without the provider's message, which may repeat the prompt.
impl fmt::Debug for LmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LmErrorFields {
            python_type,
            status,
            advice,
            ..
        } = &*self.0;
        let status = status_text(*status);
        write!(f, "the LM call failed with {python_type}{status}")?;
        if let Some(advice) = advice {
            write!(f, ": {advice}")?;
        }
        f.write_str("; what the provider said is in `Display`")
    }
}

fn advice_text(advice: Option<&'static str>) -> String {
    advice.map_or_else(String::new, |advice| format!(". {advice}"))
}

fn status_text(status: Option<u16>) -> String {
    status.map_or_else(String::new, |status| format!(" (HTTP {status})"))
}
