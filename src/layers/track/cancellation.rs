//! The cancellation of tracked calls, and the wait for the end of their work.

use std::sync::Arc;

use futures_util::future::join_all;

use crate::call::{CallId, record::CallRecord};

/// A cancellation of calls, by [`Tracker::cancel`](crate::Tracker::cancel) and the like.
#[derive(Clone, Debug)]
pub struct Cancellation {
    signalled: usize,
    records: Vec<Arc<CallRecord>>,
}

impl Cancellation {
    pub(super) const fn new(signalled: usize, records: Vec<Arc<CallRecord>>) -> Self {
        Self { signalled, records }
    }

    /// The part of it that concerns the call with this id.
    pub(super) fn of(mut self, id: CallId) -> Self {
        self.records.retain(|record| record.id() == Some(id));
        self
    }

    /// Whether a call stops because of this cancellation: not if there is no such call, if it was
    /// cancelled before, or if its layer only [observes](crate::TrackLayer::observe_only).
    ///
    /// A call that is done before it notices is still answered, and then was completed.
    #[must_use]
    pub const fn signalled(&self) -> bool {
        self.signalled > 0
    }

    /// Whether there is such a call, or work of one that is answered.
    #[must_use]
    pub const fn found(&self) -> bool {
        !self.records.is_empty()
    }

    /// How many calls stop because of this cancellation.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.signalled
    }

    /// Waits until the calls are answered and all their work has ended, the clean-up code in Python
    /// too, also of those that were cancelled before. Work that cannot be stopped may never end:
    /// put a limit on this.
    ///
    /// # Cancel safety
    /// Dropping the future does nothing.
    pub async fn settled(&self) {
        join_all(self.records.iter().map(|record| record.wait_settled())).await;
    }
}
