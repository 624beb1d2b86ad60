//! [`LmFailure`]: the error of an LM call that has no answer.

use std::time::Duration;

use super::{Classify, ErrorKind, debug_as_display};
use crate::call::{BudgetRefusal, LmOutcome};

/// In which way an LM call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LmFailureKind {
    /// No connection came about: nothing listens, no such host, or TLS was not agreed upon.
    Connect,
    /// No connection came about in time: [`LmLimits::connect`](crate::lm::LmLimits).
    ConnectTimeout,
    /// The head of the answer was not there in time: [`LmLimits::first_byte`](crate::lm::LmLimits).
    FirstByteTimeout,
    /// No content of the answer was there in time, at most pings, comments and empty events:
    /// [`LmLimits::first_content`](crate::lm::LmLimits).
    FirstContentTimeout,
    /// The answer paused for too long: [`LmLimits::idle`](crate::lm::LmLimits).
    IdleTimeout,
    /// The call took too long: [`LmLimits::total`](crate::lm::LmLimits), or a layer's limit of time.
    TotalTimeout,
    /// The deadline of the program's call, less the reserve, passed while the LM call ran.
    Deadline,
    /// The program's call was cancelled while the LM call ran.
    Cancelled,
    /// It was not sent at all: too late, cancelled, shed, over a budget, or about to take the key elsewhere.
    Refused,
    /// The connection ended, or broke, before the answer was complete.
    Read,
    /// What came was no HTTP, or not encoded as its head says.
    Protocol,
    /// A failure that this crate knows nothing about.
    Other,
}

impl LmFailureKind {
    /// Whether the provider has not had the request.
    #[cfg(feature = "lm")]
    pub(crate) const fn is_unsent(self) -> bool {
        matches!(self, Self::Connect | Self::ConnectTimeout | Self::Refused)
    }

    pub(crate) const fn sort(self) -> ErrorKind {
        match self {
            Self::Connect | Self::Read | Self::Protocol => ErrorKind::LmUnavailable,
            Self::ConnectTimeout
            | Self::FirstByteTimeout
            | Self::FirstContentTimeout
            | Self::IdleTimeout
            | Self::TotalTimeout => ErrorKind::Elapsed,
            Self::Deadline => ErrorKind::Deadline,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Refused => ErrorKind::LmRejected,
            Self::Other => ErrorKind::Other,
        }
    }
}

/// What such a failure is in the record of the call.
impl From<LmFailureKind> for LmOutcome {
    fn from(kind: LmFailureKind) -> Self {
        match kind.sort() {
            ErrorKind::Elapsed | ErrorKind::Deadline => Self::Elapsed,
            ErrorKind::Cancelled => Self::Cancelled,
            ErrorKind::LmRejected => Self::Refused,
            _ => Self::Failed,
        }
    }
}

/// An LM call failed without an answer of the provider.
///
/// Its message says what happened, without the key: what the errors that it was made of say is
/// redacted and cut short, so it has no source.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LmFailure {
    pub(crate) kind: LmFailureKind,
    pub(crate) sort: ErrorKind,
    pub(crate) message: Box<str>,
    pub(crate) retry_after: Option<Duration>,
}

impl LmFailure {
    /// A failure of this kind, as a mock in a test raises one.
    pub fn new(kind: LmFailureKind, message: impl Into<Box<str>>) -> Self {
        Self {
            kind,
            sort: kind.sort(),
            message: message.into(),
            retry_after: None,
        }
    }

    /// The failure of a call that found a budget used up, and so was not sent.
    pub(crate) fn over_budget(refusal: &BudgetRefusal) -> Self {
        Self::new(LmFailureKind::Refused, refusal.to_string()).sorted(ErrorKind::BudgetExceeded)
    }

    /// The failure as one of another [`ErrorKind`] than its kind mostly is, as a layer of yours
    /// makes one. A refused call, for example, is [`ErrorKind::LmRejected`] unless said otherwise.
    #[must_use]
    pub fn sorted(mut self, sort: ErrorKind) -> Self {
        self.sort = sort;
        self
    }

    /// The failure with the wait after which another attempt makes sense, as a layer of yours knows
    /// it: retry layers wait for so long.
    #[must_use]
    pub const fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// In which way the call failed.
    #[must_use]
    pub const fn kind(&self) -> LmFailureKind {
        self.kind
    }

    /// What happened; without the key, or a provider's body.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

debug_as_display!(LmFailure);

impl Classify for LmFailure {
    fn kind(&self) -> ErrorKind {
        self.sort
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}
