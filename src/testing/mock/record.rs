//! The record of the calls of a mock, and what became of them.

use std::time::Duration;

use serde_json::Value;
use tokio::{sync::watch, time::Instant};

use crate::{
    call::{CallContext, CallId, Cause, WorkGuard},
    error::ErrorKind,
    service::admission::Permit,
};

/// How a call ended for its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallEnd {
    /// With the prediction of its reply.
    Answered,
    /// With the error of its reply.
    Failed(ErrorKind),
    /// Before its reply: it was signalled to stop, or dropped, because of this.
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
pub(super) type MockLedger = watch::Sender<Vec<CallRecord>>;

/// The work of a call, in flight until this is dropped.
pub(super) struct MockInFlight {
    ledger: MockLedger,
    index: usize,
    /// Dropped in this order, after the record was updated.
    _held: MockHeld,
}

/// What the work of a call holds: its permit, and the work below the node of its context.
type MockHeld = (Permit, WorkGuard);

impl MockInFlight {
    pub(super) fn begin(ledger: MockLedger, mut record: CallRecord, held: MockHeld) -> Self {
        record.in_flight = true;
        let mut index = 0;
        ledger.send_modify(|calls| {
            index = calls.len();
            calls.push(record);
        });
        Self {
            ledger,
            index,
            _held: held,
        }
    }

    /// The call has ended for its caller; the first end counts.
    pub(super) fn ended(&self, end: CallEnd) {
        self.update(|call| _ = call.end.get_or_insert(end));
    }

    fn update(&self, change: impl FnOnce(&mut CallRecord)) {
        let update = |calls: &mut Vec<CallRecord>| calls.get_mut(self.index).map(change);
        self.ledger.send_modify(|calls| _ = update(calls));
    }
}

impl Drop for MockInFlight {
    fn drop(&mut self) {
        self.update(|call| call.in_flight = false);
    }
}
