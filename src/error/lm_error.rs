//! [`LmError`]: a failure of the LM, as DSPy reported it.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    Classify, Costs, ErrorKind,
    costs::{ErrorCosts, call_id_in_field, costs_in_field},
};
use crate::call::{CallId, Spent};

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

    /// What the host's user can do about it, if that is known by the status.
    #[cfg(feature = "_host")]
    pub(crate) const fn advice(&self) -> Option<&'static str> {
        self.0.advice
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
