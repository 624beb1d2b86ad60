//! The two errors that the layers raise themselves.

use std::{fmt, time::Duration};

use super::{Classify, ErrorKind};
use crate::Cause;

/// Which limit passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// The limit of one attempt.
    Attempt,
    /// The deadline of the whole call.
    Deadline,
    /// What a layer left of the deadline to the work inside it, having kept a reserve for itself.
    Reserve,
    /// The share of the time left that one step of a call was given.
    Share,
}

/// How far the call had come when a limit passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// It was refused: the limit had already passed, or left less time than such calls take.
    BeforeStart,
    /// It waited for the service to be ready.
    Waiting,
    /// The service had taken it.
    Running,
}

/// A limit passed, and what it limited was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elapsed {
    scope: Scope,
    stage: Stage,
    limit: Duration,
}

impl Elapsed {
    /// The limit `limit` of `scope` passed while the call was in `stage`.
    #[must_use]
    pub const fn new(scope: Scope, stage: Stage, limit: Duration) -> Self {
        Self {
            scope,
            stage,
            limit,
        }
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
    /// the call arrived too late.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        self.limit
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.scope {
            Scope::Attempt => "the limit of one attempt",
            Scope::Deadline => "the call's deadline",
            Scope::Reserve => "what a fallback's reserve had left of the deadline",
            Scope::Share => "this step's share of the time left",
        };
        match self.stage {
            Stage::BeforeStart if self.limit.is_zero() => {
                write!(f, "{what} had passed before the call was started")
            }
            Stage::BeforeStart => write!(
                f,
                "{what} ({:?}) is less than such calls take; the call was not started",
                self.limit
            ),
            Stage::Waiting => write!(
                f,
                "{what} ({:?}) passed while the call waited for the service",
                self.limit
            ),
            Stage::Running => {
                write!(f, "{what} ({:?}) passed; the call was stopped", self.limit)
            }
        }
    }
}

impl std::error::Error for Elapsed {}

impl Classify for Elapsed {
    fn kind(&self) -> ErrorKind {
        match self.scope {
            Scope::Attempt | Scope::Reserve | Scope::Share => ErrorKind::Elapsed,
            Scope::Deadline => ErrorKind::Deadline,
        }
    }
}

/// The call was stopped for a reason other than the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancelled {
    cause: Cause,
}

impl Cancelled {
    /// Stopped because of `cause`.
    #[must_use]
    pub const fn new(cause: Cause) -> Self {
        Self { cause }
    }

    /// Who stopped the call, or what.
    #[must_use]
    pub const fn cause(&self) -> Cause {
        self.cause
    }
}

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

impl std::error::Error for Cancelled {}

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
}
