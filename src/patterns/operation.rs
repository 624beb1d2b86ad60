//! [`Operation`]: an operation that runs.

use std::time::Duration;

use tokio::time::Instant;

use crate::call::CallId;

/// An operation that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    id: CallId,
    since: Instant,
}

impl Operation {
    /// An operation that starts now.
    pub(super) fn start() -> Self {
        Self {
            id: CallId::next(),
            since: Instant::now(),
        }
    }

    /// Names it within this process; later operations have larger ones.
    #[must_use]
    pub const fn id(&self) -> CallId {
        self.id
    }

    /// How long ago it started.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
}
