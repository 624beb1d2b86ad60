//! The record's side of the layer that tracks the call: what it is, how it is answered, and when it is
//! settled.

use std::{
    mem,
    sync::{Arc, MutexGuard},
};

use tokio::time::Instant;

use super::{
    CallRecord, OutcomeClass,
    attempt_state::AttemptState,
    call_record::RecordState,
    timeline::{AnswerSource, CallAnswer},
    tracked_state::RecordedAnswer,
};
use crate::call::{CallId, CallStatus, Deadline, ErrorKind, TraceContext};

impl CallRecord {
    /// A layer tracks the call. True for the outermost, which is to report the answer; other layers
    /// track attempts of the call.
    pub(crate) fn track(
        &self,
        id: CallId,
        label: Option<&Arc<str>>,
        deadline: Option<Deadline>,
    ) -> bool {
        let call = &mut self.lock().call;
        if mem::replace(&mut call.is_tracked, true) {
            return false;
        }
        call.id = Some(id);
        call.label = label.cloned();
        call.limit(deadline);
        true
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

    /// A fallback answers the call.
    pub(crate) fn answered_by(&self, source: AnswerSource) {
        self.lock().call.source = source;
    }

    /// The call is answered. Its work may go on.
    pub(crate) fn answer(&self, status: CallStatus, kind: Option<ErrorKind>, dropped: bool) {
        let mut state = self.lock();
        state.call.answer.get_or_insert_with(|| RecordedAnswer {
            at: Instant::now(),
            status,
            kind,
            dropped,
        });
        self.look_whether_settled(state);
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

    /// The class of a call that is answered like this, and came to its layer at `since`.
    pub(crate) fn class(
        &self,
        status: CallStatus,
        kind: Option<ErrorKind>,
        since: Instant,
        now: Instant,
    ) -> OutcomeClass {
        let call = &self.lock().call;
        let at = |instant: Instant| instant.saturating_duration_since(since);
        let answer = CallAnswer {
            at: at(now),
            status,
            kind,
            source: call.source,
            dropped: false,
        };
        OutcomeClass::of(
            &answer,
            call.deadline.map(|deadline| at(deadline.instant())),
        )
    }

    /// Whether the work of an attempt was signalled to stop and goes on.
    pub(crate) fn is_stopping(&self) -> bool {
        let state = self.lock();
        let stopping =
            |attempt: &AttemptState| attempt.stages.told_to_stop.is_some() && attempt.is_at_work();
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
    pub(super) fn look_whether_settled(&self, mut state: MutexGuard<'_, RecordState>) {
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
