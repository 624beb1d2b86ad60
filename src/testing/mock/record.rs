//! What the mock was asked, and what became of it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    time::Instant,
};

use crate::{
    call::{CallContext, CallId, Cause},
    error::ErrorKind,
};

/// How a call ended for its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallEnd {
    /// With the prediction of its reply.
    Answered,
    /// With the error of its reply.
    Failed(ErrorKind),
    /// Before its reply: it was told to stop, or dropped, because of this.
    Stopped(Cause),
    /// Before it started; it took no reply from the script.
    Refused(ErrorKind),
}

/// One call, as a [`MockDspy`](super::MockDspy) saw it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CallRecord {
    /// The inputs.
    pub inputs: Value,
    /// The call's id: the same for all attempts of one call.
    pub id: CallId,
    /// How many attempts came before this one.
    pub attempt: u32,
    /// When it came.
    pub at: Instant,
    /// What was left then until the deadline in its context; `None` if it had none.
    pub time_left: Option<Duration>,
    /// How it ended; `None` while its caller waits.
    pub end: Option<CallEnd>,
    /// Whether its work goes on. It may, for a while, after the call has [ended](Self::end).
    pub in_flight: bool,
}

impl CallRecord {
    pub(super) fn new(inputs: Value, context: &mut CallContext) -> Self {
        let at = Instant::now();
        Self {
            inputs,
            id: context.id(),
            attempt: context.attempt,
            at,
            time_left: context.deadline.map(|deadline| deadline.remaining_at(at)),
            end: None,
            in_flight: false,
        }
    }
}

/// All calls, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    calls: Mutex<Vec<CallRecord>>,
    changed: Notify,
}

impl Ledger {
    pub(super) fn add(&self, record: CallRecord) -> usize {
        let mut calls = self.lock();
        calls.push(record);
        let index = calls.len() - 1;
        drop(calls);
        self.changed.notify_waiters();
        index
    }

    pub(super) fn calls(&self) -> Vec<CallRecord> {
        self.lock().clone()
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&[CallRecord]) -> T) -> T {
        read(&self.lock())
    }

    pub(super) async fn wait_for(&self, seen: impl Fn(&[CallRecord]) -> bool) {
        loop {
            // Made before the look: from then on it misses no change.
            let changed = self.changed.notified();
            if self.read(&seen) {
                return;
            }
            changed.await;
        }
    }

    fn update(&self, index: usize, change: impl FnOnce(&mut CallRecord)) {
        if let Some(call) = self.lock().get_mut(index) {
            change(call);
        }
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<CallRecord>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The work of a call, in flight until this is dropped.
pub(super) struct Running {
    ledger: std::sync::Arc<Ledger>,
    index: usize,
    _permit: OwnedSemaphorePermit,
}

impl Running {
    pub(super) fn begin(
        ledger: std::sync::Arc<Ledger>,
        mut record: CallRecord,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        record.in_flight = true;
        Self {
            index: ledger.add(record),
            ledger,
            _permit: permit,
        }
    }

    pub(super) fn ended(&self, end: CallEnd) {
        self.ledger.update(self.index, |call| call.end = Some(end));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.ledger
            .update(self.index, |call| call.in_flight = false);
    }
}
