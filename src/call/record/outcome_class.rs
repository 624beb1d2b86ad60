//! The classes of outcomes, by which finished calls are counted and kept as samples.

use std::time::Duration;

use serde::Serialize;

use super::timeline::{AnswerSource, CallAnswer, CallTimeline};
use crate::call::{CallStatus, Cause, ErrorKind};

/// The class of a finished call's outcome.
///
/// An answer is classed by the share of the time to the deadline that it took: the time left sinks
/// before calls are late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OutcomeClass {
    /// Answered within 25 % of the time to the deadline.
    Within25,
    /// Within 50 %.
    Within50,
    /// Within 75 %.
    Within75,
    /// Within 90 %.
    Within90,
    /// Before the deadline.
    Within100,
    /// Answered, and there was no deadline.
    NoDeadline,
    /// A fallback answered.
    FellBack,
    /// An earlier answer was given.
    Stale,
    /// The deadline passed; or the answer came after it.
    Late,
    /// The limit of an attempt passed, and there was no further one.
    AttemptLimit,
    /// The client went away.
    ClientGone,
    /// The caller cancelled it, or dropped it.
    Cancelled,
    /// A shutdown cancelled it, or refused it.
    Shutdown,
    /// The inputs were wrong.
    InvalidInput,
    /// There were too many calls.
    Overloaded,
    /// The LM failed.
    LmFailed,
    /// A budget was used up.
    OverBudget,
    /// The program raised an exception, or the failure is one of another sort.
    Failed,
    /// What ran it is gone.
    Lost,
}

impl OutcomeClass {
    /// Each of them, in the order of their declaration.
    pub const ALL: [Self; 19] = [
        Self::Within25,
        Self::Within50,
        Self::Within75,
        Self::Within90,
        Self::Within100,
        Self::NoDeadline,
        Self::FellBack,
        Self::Stale,
        Self::Late,
        Self::AttemptLimit,
        Self::ClientGone,
        Self::Cancelled,
        Self::Shutdown,
        Self::InvalidInput,
        Self::Overloaded,
        Self::LmFailed,
        Self::OverBudget,
        Self::Failed,
        Self::Lost,
    ];

    /// Whether the call was answered, and by the service itself.
    #[must_use]
    pub fn is_answered(self) -> bool {
        self <= Self::NoDeadline
    }

    pub(crate) fn of(answer: &CallAnswer, deadline: Option<Duration>) -> Self {
        match answer.status {
            CallStatus::Completed => match answer.source {
                AnswerSource::Service => Self::by_share(answer.at, deadline),
                AnswerSource::Fallback => Self::FellBack,
                AnswerSource::Stale => Self::Stale,
            },
            CallStatus::TimedOut => match (answer.kind, deadline) {
                (Some(ErrorKind::Elapsed), _) => Self::AttemptLimit,
                (None, Some(deadline)) if answer.at < deadline => Self::AttemptLimit,
                (None, None) => Self::AttemptLimit,
                _ => Self::Late,
            },
            CallStatus::Cancelled { cause } => match cause {
                Cause::ClientGone => Self::ClientGone,
                Cause::Shutdown => Self::Shutdown,
                _ => Self::Cancelled,
            },
            _ => match answer.kind {
                Some(ErrorKind::InvalidInput) => Self::InvalidInput,
                Some(ErrorKind::Overloaded) => Self::Overloaded,
                Some(ErrorKind::LmUnavailable | ErrorKind::LmRejected) => Self::LmFailed,
                Some(ErrorKind::BudgetExceeded) => Self::OverBudget,
                Some(ErrorKind::Lost) => Self::Lost,
                _ => Self::Failed,
            },
        }
    }

    fn by_share(took: Duration, deadline: Option<Duration>) -> Self {
        let Some(deadline) = deadline else {
            return Self::NoDeadline;
        };
        let took = took.as_secs_f64();
        let within = |share: f64| took < share * deadline.as_secs_f64();
        match () {
            () if within(0.25) => Self::Within25,
            () if within(0.5) => Self::Within50,
            () if within(0.75) => Self::Within75,
            () if within(0.9) => Self::Within90,
            // What is ready wins the tie with the clock.
            () if took <= deadline.as_secs_f64() => Self::Within100,
            () => Self::Late,
        }
    }
}

impl CallTimeline {
    /// The class of its outcome; `None` while it is under way.
    #[must_use]
    pub fn class(&self) -> Option<OutcomeClass> {
        let answer = self.answered?;
        Some(OutcomeClass::of(&answer, self.deadline))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: CallStatus, at: u64, kind: Option<ErrorKind>) -> OutcomeClass {
        let answer = CallAnswer {
            at: Duration::from_secs(at),
            status,
            kind,
            source: AnswerSource::Service,
            dropped: false,
        };
        OutcomeClass::of(&answer, Some(Duration::from_secs(100)))
    }

    #[test]
    fn an_answer_is_classed_by_the_share_of_its_time() {
        use OutcomeClass::{Late, Within25, Within50, Within75, Within90, Within100};
        let ends = [0, 24, 25, 60, 80, 90, 100, 101];
        let classes = ends.map(|at| class(CallStatus::Completed, at, None));
        let expected = [
            Within25, Within25, Within50, Within75, Within90, Within100, Within100, Late,
        ];
        assert_eq!(classes, expected);
        let answer = CallAnswer {
            at: Duration::ZERO,
            status: CallStatus::Completed,
            kind: None,
            source: AnswerSource::Service,
            dropped: false,
        };
        assert_eq!(OutcomeClass::of(&answer, None), OutcomeClass::NoDeadline);
    }

    #[test]
    fn a_limit_of_an_attempt_is_not_the_deadline() {
        let timed_out = |at, kind| class(CallStatus::TimedOut, at, kind);
        assert_eq!(
            timed_out(4, Some(ErrorKind::Elapsed)),
            OutcomeClass::AttemptLimit
        );
        assert_eq!(
            timed_out(100, Some(ErrorKind::Deadline)),
            OutcomeClass::Late
        );
        // Dropped by a layer that told the cause alone.
        assert_eq!(timed_out(4, None), OutcomeClass::AttemptLimit);
        assert_eq!(timed_out(100, None), OutcomeClass::Late);
    }

    #[test]
    fn each_class_is_listed_once_and_in_order() {
        assert!(OutcomeClass::ALL.is_sorted_by(|one, next| one < next));
        assert_eq!(OutcomeClass::ALL.last(), Some(&OutcomeClass::Lost));
    }
}
