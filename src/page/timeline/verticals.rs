//! The instants that a timeline has as vertical lines: the deadline, the answer, the settlement.

use std::time::Duration;

use super::format::{offset, shortened};
use crate::call::{
    CallStatus, ErrorKind,
    record::timeline::{AnswerSource, CallAnswer, CallTimeline},
};

/// A vertical line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vertical {
    pub(super) kind: VerticalKind,
    pub(super) at: Duration,
    pub(super) label: String,
}

/// What a line stands for. Of lines at one instant the earlier kind stands first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum VerticalKind {
    Deadline,
    Answered,
    Settled,
    Now,
}

impl VerticalKind {
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Deadline => "tl-deadline",
            Self::Answered => "tl-answered",
            Self::Settled => "tl-settled",
            Self::Now => "tl-now",
        }
    }

    /// The width of its line.
    pub(super) const fn width(self) -> u32 {
        match self {
            Self::Settled => 3,
            Self::Deadline => 2,
            Self::Answered | Self::Now => 1,
        }
    }

    /// Its letter in a picture of characters.
    pub(super) const fn letter(self) -> char {
        match self {
            Self::Deadline => 'D',
            Self::Answered => 'A',
            Self::Settled => 'S',
            Self::Now => 'N',
        }
    }
}

/// The lines of a call, from left to right.
pub(super) fn verticals(call: &CallTimeline) -> Vec<Vertical> {
    use VerticalKind::{Answered, Deadline, Now, Settled};

    let line = |kind, at, label: String| Vertical { kind, at, label };
    let deadline = call.deadline.map(|at| {
        let label = format!("deadline {}", offset(at));
        line(Deadline, at, label)
    });
    let answered = call.answered.map(|answer| {
        let label = format!("{} {}", outcome(&answer), offset(answer.at));
        line(Answered, answer.at, shortened(&label, 60))
    });
    let last = call.settled.map_or_else(
        || line(Now, call.read, format!("now {}", offset(call.read))),
        |at| line(Settled, at, format!("settled {}", offset(at))),
    );
    let mut lines: Vec<_> = [deadline, answered, Some(last)]
        .into_iter()
        .flatten()
        .collect();
    lines.sort_by_key(|line| (line.at, line.kind));
    lines
}

/// How a call ended for its caller, and why, in words: `answered by a fallback`,
/// `failed: LM unavailable`, `timed out`, `cancelled: client gone`, `dropped`.
pub(crate) fn outcome(answer: &CallAnswer) -> String {
    match outcome_parts(answer) {
        (outcome, Some(why)) => format!("{outcome}: {why}"),
        (outcome, None) => outcome.to_owned(),
    }
}

/// How a call ended for its caller, and why.
pub(super) const fn outcome_parts(answer: &CallAnswer) -> (&'static str, Option<&'static str>) {
    match (answer.status, answer.source) {
        (CallStatus::Completed, AnswerSource::Service) => ("answered", None),
        (CallStatus::Completed, AnswerSource::Fallback) => ("answered by a fallback", None),
        (CallStatus::Completed, AnswerSource::Stale) => ("answered by an earlier answer", None),
        _ if answer.dropped => ("dropped", None),
        (CallStatus::Failed, _) => match answer.kind {
            Some(kind) => ("failed", Some(kind_name(kind))),
            None => ("failed", None),
        },
        (CallStatus::Cancelled { cause }, _) => ("cancelled", Some(cause.as_str())),
        (status, _) => (status.as_str(), None),
    }
}

/// The sort of an error in words.
const fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Elapsed => "the limit of an attempt passed",
        ErrorKind::Deadline => "the deadline passed",
        ErrorKind::Cancelled => "cancelled",
        ErrorKind::ShuttingDown => "shutting down",
        ErrorKind::Overloaded => "overloaded",
        ErrorKind::InvalidInput => "invalid input",
        ErrorKind::Program => "the program raised",
        ErrorKind::LmUnavailable => "LM unavailable",
        ErrorKind::LmRejected => "LM rejected the request",
        ErrorKind::BudgetExceeded => "a budget was used up",
        ErrorKind::Lost => "its worker was lost",
        ErrorKind::Other => "another error",
    }
}
