//! The two errors that the layers raise themselves.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    Classify, Costs, ErrorKind,
    costs::{ErrorCosts, call_id_in_field, costs_in_field},
    debug_as_display,
};
pub use crate::call::Scope;
use crate::call::{CallId, Cause, Limit, Spent};

/// How far the call had come when a limit passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// It was refused: the limit had already passed, or left less time than such calls take.
    BeforeStart,
    /// It waited for the service to be ready.
    Waiting,
    /// The service had taken it.
    Running,
}

/// A limit passed, and what it limited was told to stop.
///
/// Its LM calls have ended by then, and their connections are closed. Python code that waits has its
/// exception; code that cannot be ended where it is, as in a library in C, goes on until it returns. The
/// call is counted until then: see [`DspyService::in_flight`](crate::DspyService::in_flight), and
/// [`Cancel::settled`](crate::Cancel::settled) to wait for it.
///
/// Two are equal when the same limit passed in the same stage, whatever was [spent](Self::spent).
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub struct Elapsed {
    // Nanoseconds: every layer's answer is as large as its error.
    limit: u64,
    spent: ErrorCosts,
    scope: Scope,
    stage: Stage,
}

impl Elapsed {
    /// The limit `limit` of `scope` passed while the call was in `stage`.
    #[must_use]
    pub const fn new(scope: Scope, stage: Stage, limit: Duration) -> Self {
        let nanos = limit.as_nanos();
        Self {
            limit: if nanos < u64::MAX as u128 {
                nanos as u64
            } else {
                u64::MAX
            },
            spent: ErrorCosts::NONE,
            scope,
            stage,
        }
    }

    pub(crate) fn of(limit: &Limit, stage: Stage) -> Self {
        Self::new(limit.scope, stage, limit.at.remaining_at(limit.since))
    }

    /// Which limit passed.
    #[must_use]
    pub const fn scope(&self) -> Scope {
        self.scope
    }

    /// How far the call had come.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// The time that the limit allowed, from when the layer that names it got the call. Zero if
    /// the call arrived too late; [`Duration::MAX`] for more than 584 years.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        match self.limit {
            u64::MAX => Duration::MAX,
            nanos => Duration::from_nanos(nanos),
        }
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.scope {
            Scope::Attempt => "the limit of one attempt",
            Scope::Deadline => "the call's deadline",
            Scope::Reserve => "what a fallback's reserve had left of the deadline",
            Scope::Share => "this step's share of the time left",
            Scope::FirstContent => "the limit until the first event of the stream",
            Scope::Idle => "the limit between two events of the stream",
            Scope::Total => "the limit of the whole stream",
        };
        let outcome = match self.stage {
            Stage::BeforeStart if self.limit == 0 => {
                return write!(f, "{what} had passed before the call was started");
            }
            Stage::BeforeStart => "is less than such calls take; the call was not started",
            Stage::Waiting => "passed while the call waited for the service",
            Stage::Running => "passed; the call was told to stop",
        };
        write!(f, "{what} ({}) {outcome}", readable(self.limit()))
    }
}

/// `limit` to three digits, but never coarser than whole seconds: what was left of 4 s is measured,
/// and is 3.999999123 s.
fn readable(limit: Duration) -> String {
    let Ok(nanos) = u64::try_from(limit.as_nanos()) else {
        return "unlimited".to_owned();
    };
    let digits = nanos.checked_ilog10().unwrap_or(0).saturating_sub(2).min(9);
    let unit = 10_u64.pow(digits);
    let rounded = nanos.saturating_add(unit / 2) / unit * unit;
    format!("{:?}", Duration::from_nanos(rounded))
}

impl Classify for Elapsed {
    fn kind(&self) -> ErrorKind {
        match self.scope {
            Scope::Attempt
            | Scope::Reserve
            | Scope::Share
            | Scope::FirstContent
            | Scope::Idle
            | Scope::Total => ErrorKind::Elapsed,
            Scope::Deadline => ErrorKind::Deadline,
        }
    }

    fn may_have_started(&self) -> bool {
        self.stage == Stage::Running
    }
}

costs_in_field!(Elapsed, spent);

/// The call was told to stop for a reason other than the clock. What may still run is the same as
/// after a limit: see [`Elapsed`].
///
/// Two are equal when their causes are, whatever was [spent](Self::spent), and in whatever
/// [stage](Self::stage).
#[derive(Clone, thiserror::Error)]
pub struct Cancelled {
    cause: Cause,
    stage: Stage,
    spent: ErrorCosts,
}

impl Cancelled {
    /// Stopped because of `cause`.
    #[must_use]
    pub const fn new(cause: Cause) -> Self {
        Self {
            cause,
            stage: Stage::Running,
            spent: ErrorCosts::NONE,
        }
    }

    /// The same, for a call that had come so far: [`Stage::BeforeStart`] if it surely never began.
    /// [`new`](Self::new) says [`Stage::Running`].
    #[must_use]
    pub const fn with_stage(mut self, stage: Stage) -> Self {
        self.stage = stage;
        self
    }

    /// How far the call had come, as far as that is known.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// Who stopped the call, or what.
    #[must_use]
    pub const fn cause(&self) -> Cause {
        self.cause
    }
}

impl PartialEq for Cancelled {
    fn eq(&self, other: &Self) -> bool {
        self.cause == other.cause
    }
}

impl Eq for Cancelled {}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.cause {
            Cause::Caller => "the caller cancelled the call",
            Cause::ClientGone => "the call was cancelled: its client went away",
            Cause::Elapsed => "the call was cancelled: the limit of one attempt passed",
            Cause::Deadline => "the call was cancelled: its deadline passed",
            Cause::Shutdown => "the service is shutting down",
            Cause::Dropped => "the call was cancelled: its future was dropped",
            Cause::Superseded => "the attempt was cancelled: another one answered first",
        })
    }
}

impl Classify for Cancelled {
    fn kind(&self) -> ErrorKind {
        match self.cause {
            Cause::Shutdown => ErrorKind::ShuttingDown,
            _ => ErrorKind::Cancelled,
        }
    }

    fn cancel_cause(&self) -> Option<Cause> {
        Some(self.cause)
    }

    fn may_have_started(&self) -> bool {
        self.stage == Stage::Running
    }
}

costs_in_field!(Cancelled, spent);

debug_as_display!(Elapsed, Cancelled);

#[cfg(test)]
mod tests {
    use super::*;

    fn spent() -> Arc<Spent> {
        Arc::new(Spent {
            steps: 1,
            ..Spent::default()
        })
    }

    #[test]
    fn a_limit_is_returned_exactly_and_displayed_to_three_digits() {
        let rounded = [
            (Duration::from_nanos(3_999_999_123), "4s"),
            (Duration::from_nanos(3_995_000_000), "4s"),
            (Duration::from_nanos(1_234_567_890), "1.23s"),
            (Duration::from_nanos(12_345_678), "12.3ms"),
            (Duration::from_nanos(999_999), "1ms"),
            (Duration::from_millis(250), "250ms"),
            (Duration::from_nanos(7), "7ns"),
            (Duration::from_millis(86_399_600), "86400s"),
            (Duration::MAX, "unlimited"),
        ];
        for (limit, shown) in rounded {
            let elapsed = Elapsed::new(Scope::Attempt, Stage::Running, limit);
            assert_eq!(elapsed.limit(), limit);
            assert!(
                elapsed.to_string().contains(&format!("({shown})")),
                "{elapsed}"
            );
        }
    }

    #[test]
    fn spent_tokens_do_not_affect_equality() {
        let elapsed = Elapsed::new(Scope::Deadline, Stage::Running, Duration::from_secs(1));
        let told = elapsed.clone().with_spent(spent());
        assert_eq!(elapsed, told);
        assert_eq!((elapsed.spent(), told.spent()), (None, Some(&*spent())));

        let cancelled = Cancelled::new(Cause::Caller);
        let told = cancelled.clone().with_spent(spent());
        assert_eq!(cancelled, told);
        assert_ne!(told, Cancelled::new(Cause::Shutdown).with_spent(spent()));
        assert_eq!((cancelled.spent(), told.spent()), (None, Some(&*spent())));
    }
}
