//! The record's side of the layer that tracks the call: what it is, how it is answered, and when it is
//! settled.

use std::{
    sync::{Arc, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    CallRecord, OutcomeClass,
    attempt_state::AttemptState,
    call_record::RecordState,
    timeline::{AnswerSource, CallAnswer},
    tracked_state::RecordedAnswer,
};
use crate::call::{CallId, CallStatus, Cause, Deadline, ErrorKind, TraceContext};

impl CallRecord {
    /// A layer tracks the call. True for the outermost of those that track it at one time; the others
    /// track its attempts.
    pub(crate) fn track(
        &self,
        id: CallId,
        label: Option<&Arc<str>>,
        deadline: Option<Deadline>,
    ) -> bool {
        let call = &mut self.lock().call;
        call.trackers += 1;
        if call.trackers > 1 {
            return false;
        }
        // The layer may lie inside a retry, and this be another attempt.
        (call.answer, call.of_attempt, call.settled) = (None, None, None);
        call.id = Some(id);
        call.label = label.cloned();
        call.limit(deadline);
        true
    }

    /// A layer that tracked the call has its answer. Returns that of the call, once it is known: from the
    /// outermost layer; or, where that was a superseded attempt of a hedge, from the last.
    pub(crate) fn leave(
        &self,
        is_outermost: bool,
        status: CallStatus,
        kind: Option<ErrorKind>,
        dropped: bool,
    ) -> Option<RecordedAnswer> {
        let at = Instant::now();
        let answer = RecordedAnswer {
            at,
            status,
            kind,
            dropped,
        };
        let cause = Cause::Superseded;
        let is_superseded = status == CallStatus::Cancelled { cause };
        let mut state = self.lock();
        let call = &mut state.call;
        call.trackers = call.trackers.saturating_sub(1);
        if !is_superseded || call.of_attempt.is_none() {
            call.of_attempt = Some(answer);
        }
        let is_known = is_outermost && !is_superseded || call.trackers == 0;
        if !is_known || call.answer.is_some() {
            return None;
        }
        call.answer = if is_outermost && !is_superseded {
            Some(answer)
        } else {
            call.of_attempt
        };
        let answer = call.answer;
        self.settle_if_idle(state);
        answer
    }

    /// A layer enforces this deadline of the whole call.
    pub(crate) fn limit(&self, deadline: Deadline) {
        self.lock().call.limit(Some(deadline));
    }

    /// This program runs the call.
    #[cfg(feature = "_host")]
    pub(crate) fn run_by(&self, program: &Arc<str>) {
        let call = &mut self.lock().call;
        if call.program.as_ref() != Some(program) {
            call.program = Some(program.clone());
        }
    }

    /// The call belongs to this trace.
    pub(crate) fn traced(&self, trace: &TraceContext) {
        let id = || trace.trace_id().to_string().into();
        self.lock().call.trace_id.get_or_insert_with(id);
    }

    /// A fallback is asked: attempts from now on are its own.
    pub(crate) fn begin_fallback(&self) {
        self.lock().call.fell_back = true;
    }

    /// What has answered the call, or an attempt of it.
    pub(crate) fn answered_by(&self, source: AnswerSource) {
        self.lock().call.source = source;
    }

    /// Tokens of answers that came after the end of their attempt.
    #[cfg(feature = "lm")]
    pub(super) fn add_late_tokens(&self, tokens: u64) {
        let sum = &mut self.lock().late_tokens;
        *sum = sum.saturating_add(tokens);
    }

    /// Whether the call is answered and all its work has ended.
    pub(crate) fn is_settled(&self) -> bool {
        self.lock().call.settled.is_some()
    }

    /// Whether work of an attempt goes on.
    pub(crate) fn is_at_work(&self) -> bool {
        self.lock().attempts.iter().any(AttemptState::is_at_work)
    }

    /// The id of the call that a layer tracks.
    pub(crate) fn id(&self) -> Option<CallId> {
        self.lock().call.id
    }

    /// The deadline of the whole call.
    pub(crate) fn deadline(&self) -> Option<Deadline> {
        self.lock().call.deadline
    }

    /// The name to show: the label, else the program.
    pub(crate) fn name(&self) -> Option<Arc<str>> {
        let call = &self.lock().call;
        call.label.clone().or_else(|| call.program.clone())
    }

    /// The class of the answer, and how long it took.
    pub(crate) fn class(&self, answer: &RecordedAnswer) -> (OutcomeClass, Duration) {
        let call = &self.lock().call;
        let since = |instant: Instant| instant.saturating_duration_since(self.arrival);
        let answer = CallAnswer {
            at: since(answer.at),
            status: answer.status,
            kind: answer.kind,
            source: call.source,
            dropped: answer.dropped,
        };
        let deadline = call.deadline.map(|deadline| since(deadline.instant()));
        (OutcomeClass::of(&answer, deadline), answer.at)
    }

    /// Forgets the partial answer of a call that is settled.
    pub(crate) fn forget_partial(&self) {
        let mut state = self.lock();
        if state.call.settled.is_some() {
            state.costs.spent.partial = None;
        }
    }

    /// Whether the work of an attempt was signalled to stop and goes on.
    pub(crate) fn is_stopping(&self) -> bool {
        let state = self.lock();
        let stopping =
            |attempt: &AttemptState| attempt.stages.signalled.is_some() && attempt.is_at_work();
        state.attempts.iter().any(stopping)
    }

    /// Waits until the call is answered and all its work has ended.
    pub(crate) async fn wait_settled(&self) {
        loop {
            let settled = self.settled.notified();
            if self.is_settled() {
                return;
            }
            settled.await;
        }
    }

    /// Records the settlement, if nothing is under way any more.
    pub(super) fn settle_if_idle(&self, mut state: MutexGuard<'_, RecordState>) {
        if state.call.answer.is_none() || state.call.settled.is_some() {
            return;
        }
        if !state.attempts.iter().any(AttemptState::is_at_work) {
            state.call.settled = Some(Instant::now());
            drop(state);
            self.settled.notify_waiters();
        }
    }
}
