//! The status of a call.

use std::fmt;

use crate::call::Cause;

/// How far a call has come, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "status")]
#[non_exhaustive]
pub enum CallStatus {
    /// It waits for a service to be ready.
    Pending,
    /// A service has taken it.
    Running,
    /// It was answered.
    Completed,
    /// It ended in an error, or in a panic.
    Failed,
    /// A limit of time ended it, one of its own or one of a layer around it.
    TimedOut,
    /// It was stopped before it was done.
    Cancelled {
        /// By whom, or by what.
        cause: Cause,
    },
}

impl CallStatus {
    /// Whether the call is over. A status that is, is the last.
    #[must_use]
    pub const fn is_finished(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// The status in one lower-case phrase, as spans and logs name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
            Self::Cancelled { .. } => "cancelled",
        }
    }
}

impl fmt::Display for CallStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled { cause } => write!(f, "cancelled ({cause})"),
            status => f.write_str(status.as_str()),
        }
    }
}
