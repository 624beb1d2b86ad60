//! What metrics are told of a call.

use std::time::Duration;

use crate::call::{CallStatus, Cause, ErrorKind};

/// How a tracked call ended: the labels of its metrics. An empty one is no label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallLabels {
    pub(crate) outcome: &'static str,
    /// Of a call that was cancelled.
    pub(crate) cause: &'static str,
    /// Of a call that an error answered.
    pub(crate) kind: &'static str,
}

impl CallLabels {
    /// Those of answers, before there is one: a series that begins at the first failure has no increase
    /// then.
    #[cfg(all(feature = "metrics", feature = "_host"))]
    pub(super) fn known() -> impl Iterator<Item = Self> {
        use ErrorKind::{
            BudgetExceeded, Deadline, Elapsed, InvalidInput, LmRejected, LmUnavailable, Lost,
            Other, Overloaded, Program,
        };
        let timed_out = [Deadline, Elapsed].map(|kind| (CallStatus::TimedOut, Some(kind)));
        let failed = [
            Overloaded,
            InvalidInput,
            Program,
            LmUnavailable,
            LmRejected,
            BudgetExceeded,
            Lost,
            Other,
        ]
        .map(|kind| (CallStatus::Failed, Some(kind)));
        let known = [(CallStatus::Completed, None)].into_iter();
        let known = known.chain(timed_out).chain(failed);
        known.map(|(status, kind)| Self::new(status, kind))
    }

    pub(crate) fn new(status: CallStatus, kind: Option<ErrorKind>) -> Self {
        let (outcome, cause) = match status {
            CallStatus::Completed => ("completed", ""),
            CallStatus::TimedOut => ("timed_out", ""),
            CallStatus::Cancelled { cause } => ("cancelled", cause_label(cause)),
            _ => ("failed", ""),
        };
        Self {
            outcome,
            cause,
            kind: kind.map_or("", kind_label),
        }
    }
}

const fn cause_label(cause: Cause) -> &'static str {
    match cause {
        Cause::ClientGone => "client_gone",
        cause => cause.as_str(),
    }
}

const fn kind_label(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Elapsed => "elapsed",
        ErrorKind::Deadline => "deadline",
        ErrorKind::Cancelled => "cancelled",
        ErrorKind::ShuttingDown => "shutting_down",
        ErrorKind::Overloaded => "overloaded",
        ErrorKind::InvalidInput => "invalid_input",
        ErrorKind::Program => "program",
        ErrorKind::LmUnavailable => "lm_unavailable",
        ErrorKind::LmRejected => "lm_rejected",
        ErrorKind::BudgetExceeded => "budget_exceeded",
        ErrorKind::Lost => "lost",
        ErrorKind::Other => "other",
    }
}

/// The value of `error.type` for an error of this kind; `None` for a cancel, which is no error.
pub(crate) const fn error_type(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::Elapsed | ErrorKind::Deadline => Some("timeout"),
        ErrorKind::Cancelled | ErrorKind::ShuttingDown => None,
        ErrorKind::Other => Some("_OTHER"),
        kind => Some(kind_label(kind)),
    }
}

/// A tracked call that has ended.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "metrics"),
    expect(dead_code, reason = "metrics read it")
)]
pub(crate) struct EndedCall<'a> {
    /// The label of its layer, else the name of its program; empty if there is neither.
    pub(crate) program: &'a str,
    pub(crate) labels: CallLabels,
    pub(crate) duration: Duration,
    /// Of its deadline, if it had one.
    pub(crate) time_left: Option<Duration>,
    /// Past its deadline.
    pub(crate) overshoot: Duration,
}

/// What became of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "_host"), expect(dead_code, reason = "a host emits it"))]
pub(crate) enum TokenFate {
    /// Their attempt came to an answer.
    Used,
    /// Their LM's answer came after the end of their attempt.
    Late,
    /// Their attempt came to no answer.
    Wasted,
}
