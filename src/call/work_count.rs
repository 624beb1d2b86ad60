//! The count of the works below a node.
//!
//! Invariants:
//! 1. No end is missed: a waiter is registered before it reads the count, and notified after the
//!    last work has ended.
//! 2. A work is counted before it checks for the node's cancellation. So a waiter that reads zero
//!    after the cancellation sees no work begin.

use crate::sync::{AtomicUsize, Notify, Ordering};

/// Counts works, and wakes those that wait for the last to end.
#[derive(Default)]
pub(super) struct WorkCount {
    works: AtomicUsize,
    ended: Notify,
}

impl WorkCount {
    pub(super) fn begin(&self) {
        self.works.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn end(&self) {
        if self.works.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.ended.notify_waiters();
        }
    }

    /// Waits until no work goes on. Once there was such a moment it has waited long enough, although
    /// new works may have begun since.
    pub(super) async fn wait_ended(&self) {
        let ended = self.ended.notified();
        if self.works.load(Ordering::Acquire) > 0 {
            ended.await;
        }
    }
}
