//! [`SentMark`]: how a connection reports that it takes the request of an attempt.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{LmRequest, charge::Charged};
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
    pub(super) on_sent: Option<OnSent>,
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
        if let Some(OnSent(report)) = &self.on_sent {
            report();
        }
    }
}

/// A function of a layer that is called when a request is sent; among the request's extensions.
#[derive(Clone)]
pub(super) struct OnSent(Arc<dyn Fn() + Send + Sync>);

impl OnSent {
    /// Calls `report` too when `request` is sent, with each attempt at it.
    pub(super) fn add(request: &mut LmRequest, report: impl Fn() + Send + Sync + 'static) {
        let outer: Option<Self> = request.extensions_mut().remove();
        request.extensions_mut().insert(Self(Arc::new(move || {
            if let Some(Self(outer)) = &outer {
                outer();
            }
            report();
        })));
    }
}

impl fmt::Debug for OnSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnSent").finish()
    }
}
