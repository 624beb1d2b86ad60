//! [`SentMark`]: how a connection reports that it takes the request of an attempt.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{LmRequest, charge::Charged};
use crate::call::{LmCall, record::AttemptRecord};

/// An attempt in its log.
#[derive(Clone, Debug)]
pub(super) struct LmLogId {
    pub(super) log: Arc<AttemptRecord>,
    pub(super) id: u64,
    /// What the record has of its charge, which may be closed before the attempt ends.
    pub(super) recorded: Arc<Mutex<Charged>>,
}

impl LmLogId {
    /// Writes a charge into the record.
    pub(super) fn put(&self, charged: Charged, call: &mut LmCall) {
        charged.put(call);
        *self.lock() = charged;
    }

    /// What the record has of its charge.
    pub(super) fn recorded(&self) -> Charged {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Charged> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        if let Some(LmLogId { log, id, .. }) = &self.log {
            log.sent(*id);
        }
    }

    /// The request may be sent from now on, by a client that does not report when.
    pub(super) fn charge(&self) {
        self.is_sent.store(true, Ordering::Relaxed);
        if let Some(entry) = &self.log {
            let put = |call: &mut LmCall| entry.put(self.charged, call);
            entry.log.update(entry.id, put);
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
