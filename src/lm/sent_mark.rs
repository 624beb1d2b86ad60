//! [`SentMark`]: how a connection reports that it takes the request of an attempt.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::charge::Charged;
use crate::call::record::AttemptRecord;

/// An attempt in its log.
#[derive(Clone, Debug)]
pub(super) struct LmLogId {
    pub(super) log: Arc<AttemptRecord>,
    pub(super) id: u64,
}

/// What a connection marks as it takes the request of an attempt; among the extensions of the request
/// that the client gets.
#[derive(Clone, Debug)]
pub(super) struct SentMark {
    pub(super) log: Option<LmLogId>,
    pub(super) is_sent: Arc<AtomicBool>,
    /// What is charged from then on.
    pub(super) charged: Charged,
}

impl SentMark {
    /// A connection takes the request.
    pub(super) fn sent(&self) {
        self.charge();
        if let Some(LmLogId { log, id }) = &self.log {
            log.sent(*id);
        }
    }

    /// The request may be sent from now on, by a client that does not report when.
    pub(super) fn charge(&self) {
        self.is_sent.store(true, Ordering::Relaxed);
        if let Some(LmLogId { log, id }) = &self.log {
            log.update(*id, |call| self.charged.put(call));
        }
    }
}
