//! A call's place in its tracker.

use tracing::Span;

use super::{
    snapshot::CallSnapshot,
    tracker::{TrackEntry, TrackedCall, Tracker, leave, runs},
};
use crate::{
    call::{CallEnd, CallStatus, Deadline, record::RecordedAnswer},
    telemetry::{
        self,
        metrics::{self, CallLabels, EndedCall, error_type},
        names,
    },
};

/// A call's place in its tracker, held by the call's future, or by the stream that it was answered
/// with. Dropping it makes the call leave.
pub(super) struct TrackTicket {
    tracker: Tracker,
    entry: Option<TrackEntry>,
    pub(super) call: TrackedCall,
    /// Covers all of the call.
    pub(super) span: Span,
    /// How the call ends if the ticket is dropped now.
    pub(super) end: CallEnd,
}

impl TrackTicket {
    /// Enters a call into its tracker.
    pub(super) fn new(tracker: Tracker, call: TrackedCall, span: Span) -> Self {
        Self {
            entry: tracker.enter(call.clone()),
            tracker,
            call,
            span,
            end: CallEnd::Dropped,
        }
    }

    /// Drops the ticket of a call that ends so.
    pub(super) fn end(mut self, end: CallEnd) {
        self.end = end;
    }

    /// The call has been taken by a service.
    pub(super) fn runs(&mut self) {
        if !std::mem::replace(&mut self.call.runs, true)
            && let Some(entry) = &self.entry
        {
            runs(entry);
        }
    }

    /// Records the outcome in the span.
    fn record(&self, left: &CallSnapshot) {
        self.span.record(names::OUTCOME, left.status.as_str());
        self.span.record(names::ATTEMPTS, left.attempts);
        match left.status {
            CallStatus::Cancelled { cause } => {
                self.span.record(names::CAUSE, cause.as_str());
            }
            CallStatus::TimedOut => telemetry::record_error(&self.span, "timeout"),
            CallStatus::Failed => {
                let error_type = self.end.kind().and_then(error_type);
                // A panic has no kind.
                telemetry::record_error(&self.span, error_type.unwrap_or("_OTHER"));
            }
            _ => {}
        }
    }

    /// Emits the metrics of a call that is answered, and keeps it as a sample or as an orphan.
    fn keep(&self, left: &CallSnapshot, answer: RecordedAnswer) {
        let TrackedCall { label, record, .. } = &self.call;
        let name = label.clone().or_else(|| record.name());
        // A layer further in may have set an earlier one.
        let deadline = record.deadline();
        let past = |deadline: Deadline| answer.at.saturating_duration_since(deadline.instant());
        metrics::call_ended(&EndedCall {
            program: name.as_deref().unwrap_or_default(),
            labels: CallLabels::new(answer.status, answer.kind),
            duration: left.elapsed,
            time_left: deadline.map(|deadline| deadline.remaining_at(answer.at)),
            overshoot: deadline.map(past).unwrap_or_default(),
        });
        let (class, is_at_work) = (record.class(&answer), record.is_at_work());
        let before = self.tracker.calls.inspect(|_, account| {
            if is_at_work {
                account.unsettled.add(record.clone());
            }
            account.samples.add(name, class, record)
        });
        for record in before {
            record.forget_partial();
        }
    }
}

impl Drop for TrackTicket {
    fn drop(&mut self) {
        let end = self.end;
        let left = self.entry.as_mut().and_then(|entry| leave(entry, end));
        let Some(left) = left else { return };
        self.record(&left);
        telemetry::end(&self.span);
        let TrackedCall {
            is_outermost,
            record,
            ..
        } = &self.call;
        let dropped = matches!(end, CallEnd::Dropped);
        if let Some(answer) = record.leave(*is_outermost, left.status, end.kind(), dropped) {
            self.keep(&left, answer);
        }
    }
}
