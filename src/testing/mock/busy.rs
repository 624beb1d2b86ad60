//! [`Busy`]: permits of a mock that are taken.

use tokio::sync::OwnedSemaphorePermit;

use super::MockDspy;

impl MockDspy {
    /// Takes all permits that are free, as the calls of others would: until the guard is dropped
    /// the service is not ready, and with too many waiting it answers
    /// [`Overloaded`](crate::Overloaded).
    pub fn busy(&self) -> Busy {
        Busy {
            _permits: std::iter::from_fn(|| self.permits.try_acquire()).collect(),
        }
    }
}

/// Keeps a [`MockDspy`] from being ready; see [`MockDspy::busy`].
#[derive(Debug)]
#[must_use = "the permits come back when this is dropped"]
pub struct Busy {
    _permits: Vec<OwnedSemaphorePermit>,
}
