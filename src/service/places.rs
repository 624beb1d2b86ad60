//! A bounded number of places to wait in.

use std::sync::Arc;

use crate::sync::atomic::{AtomicUsize, Ordering};

/// Who waits is counted; there are at most `max`.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    taken: Arc<AtomicUsize>,
}

impl Places {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            taken: Arc::new(AtomicUsize::new(0)),
        }
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// A place; `None` if there is none left.
    pub(crate) fn take(&self) -> Option<Place> {
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                (taken < self.max).then_some(taken + 1)
            })
            .ok()
            .map(|_| Place(self.taken.clone()))
    }
}

/// Held while waiting.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
