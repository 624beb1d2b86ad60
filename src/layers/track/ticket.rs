//! A call's place in its tracker.

use tracing::Span;

use super::tracker::{TrackEntry, leave, runs};
use crate::{
    call::{CallEnd, CallId, CallStatus, ErrorKind},
    telemetry::{self, metrics::error_type, names},
};

/// A call's place in its tracker, held by the call's future, or by the stream that it was answered with. Dropping it makes the call leave.
pub(super) struct TrackTicket {
    entry: Option<TrackEntry>,
    pub(super) id: CallId,
    runs: bool,
    /// Covers all of the call.
    pub(super) span: Span,
    /// How the call ends if the ticket is dropped now.
    pub(super) end: CallEnd,
    /// The sort of its error, if it ends with one.
    pub(super) kind: Option<ErrorKind>,
}

impl TrackTicket {
    /// The ticket of a call that has entered its tracker.
    pub(super) const fn new(entry: Option<TrackEntry>, id: CallId, span: Span) -> Self {
        Self {
            entry,
            id,
            runs: false,
            span,
            end: CallEnd::Dropped,
            kind: None,
        }
    }

    /// Drops the ticket of a call that ends so.
    pub(super) fn end(mut self, end: CallEnd) {
        self.end = end;
    }

    /// The call has been taken by a service.
    pub(super) fn runs(&mut self) {
        if !std::mem::replace(&mut self.runs, true)
            && let Some(entry) = &self.entry
        {
            runs(entry);
        }
    }
}

impl Drop for TrackTicket {
    fn drop(&mut self) {
        let (end, kind) = (self.end, self.kind);
        let left = self
            .entry
            .as_mut()
            .and_then(|entry| leave(entry, end, kind));
        let Some(call) = left else { return };
        self.span.record(names::OUTCOME, call.status.as_str());
        self.span.record(names::ATTEMPTS, call.attempts);
        match call.status {
            CallStatus::Cancelled { cause } => {
                self.span.record(names::CAUSE, cause.as_str());
            }
            CallStatus::TimedOut => telemetry::record_error(&self.span, "timeout"),
            CallStatus::Failed => {
                let error_type = kind.and_then(error_type);
                // Without a kind it is a panic.
                telemetry::record_error(&self.span, error_type.unwrap_or("_OTHER"));
            }
            _ => {}
        }
    }
}
