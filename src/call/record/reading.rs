//! The reading of a record as a timeline.

use tokio::time::Instant;

use super::{
    CallRecord,
    attempt_state::AttemptState,
    call_record::RecordState,
    timeline::{CallAnswer, CallTimeline, LmCallTimeline, StopSignal},
};
use crate::call::Cause;

impl CallRecord {
    /// The timeline so far.
    pub(crate) fn timeline(&self) -> CallTimeline {
        let now = Instant::now();
        let since = |instant: Instant| instant.saturating_duration_since(self.arrival);
        let state = self.lock();
        let RecordState {
            costs,
            attempts,
            call,
            ..
        } = &*state;
        let answered = call.answer.map(|answer| CallAnswer {
            at: since(answer.at),
            status: answer.status,
            kind: answer.kind,
            source: call.source,
            dropped: answer.dropped,
        });
        CallTimeline {
            id: call.id,
            label: call.label.clone(),
            program: call.program.clone(),
            trace_id: call.trace_id.clone(),
            arrived: self.arrived,
            read: since(now),
            deadline: call.deadline.map(|deadline| since(deadline.instant())),
            stopped: stop_signal(attempts, answered.is_some(), self.arrival),
            answered,
            settled: call.settled.map(since),
            attempts: attempts
                .iter()
                .map(|attempt| attempt.stages.timeline(self.arrival))
                .collect(),
            attempts_not_kept: state.attempts_not_kept,
            lm_calls: lm_calls(&state, self.arrival, now),
            lm_calls_not_kept: costs.spent.lm_calls_not_kept,
            usage: costs.spent.usage,
            cost: costs.spent.cost,
            #[cfg(feature = "lm")]
            wasted_tokens: costs.wasted_tokens,
            #[cfg(not(feature = "lm"))]
            wasted_tokens: 0,
            tools: state
                .tools
                .timelines(self.arrival, |key| index_of(attempts, key)),
            tools_not_kept: state.tools.not_kept,
            blocks: state
                .blocks
                .iter()
                .map(|block| block.timeline(self.arrival))
                .collect(),
            late_tokens: state.late_tokens,
        }
    }
}

/// The signal by which the work of a call was stopped for good: that to its last attempt but for
/// superseded ones. After the limit of an attempt there may be another one, until the call is answered.
fn stop_signal(
    attempts: &[AttemptState],
    is_answered: bool,
    arrival: Instant,
) -> Option<StopSignal> {
    let mut stages = attempts.iter().map(|attempt| &attempt.stages);
    let last = stages.rfind(|stages| stages.cause != Some(Cause::Superseded))?;
    let cause = last.cause?;
    if cause == Cause::Elapsed && !is_answered {
        return None;
    }
    Some(StopSignal {
        at: last.signalled?.saturating_duration_since(arrival),
        cause,
    })
}

/// The place of the attempt with this key.
fn index_of(attempts: &[AttemptState], key: u64) -> Option<usize> {
    attempts.iter().position(|attempt| attempt.key == key)
}

fn lm_calls(state: &RecordState, arrival: Instant, now: Instant) -> Vec<LmCallTimeline> {
    #[cfg(not(feature = "lm"))]
    {
        let _ = (state, arrival, now);
        Vec::new()
    }
    #[cfg(feature = "lm")]
    {
        let origin = state.costs.origin.unwrap_or(arrival);
        let shift = origin.saturating_duration_since(arrival);
        let ended = state.costs.spent.lm_calls.iter();
        let ended = ended.map(|call| LmCallTimeline {
            call: call.later_by(shift),
            attempt_index: index_of(&state.attempts, call.attempt_key),
            is_open: false,
        });
        let open = state.attempts.iter().flat_map(|attempt| &attempt.open);
        let open = open.map(|open| {
            let mut call = open.call.later_by(shift);
            call.duration = now.saturating_duration_since(open.began);
            LmCallTimeline {
                attempt_index: index_of(&state.attempts, call.attempt_key),
                call,
                is_open: true,
            }
        });
        ended.chain(open).collect()
    }
}
