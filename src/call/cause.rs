//! The causes for which calls are stopped.

use std::fmt;

/// Why a call was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// The caller asked, through its token or its [`Cancel`](crate::Cancel).
    Caller,
    /// The client that was to get the answer went away.
    ClientGone,
    /// The limit of one attempt passed.
    Elapsed,
    /// The deadline of the whole call passed.
    Deadline,
    /// The service is shutting down.
    Shutdown,
    /// The future of the response was dropped.
    Dropped,
    /// Another attempt at the same call answered first.
    Superseded,
}

impl Cause {
    /// The cause in a few lower-case words, as spans and logs name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::ClientGone => "client gone",
            Self::Elapsed => "elapsed",
            Self::Deadline => "deadline",
            Self::Shutdown => "shutdown",
            Self::Dropped => "dropped",
            Self::Superseded => "superseded",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
