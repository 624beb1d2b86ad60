//! Timelines of calls, built step by step.

use std::time::{Duration, SystemTime};

use crate::call::{
    CallStatus, Cause, Cost, LmCall, LmOutcome, Usage,
    record::timeline::{
        AnswerSource, AttemptKind, AttemptTimeline, CallAnswer, CallTimeline, LmCallTimeline,
        StopSignal,
    },
};

pub(super) fn ms(ms: f64) -> Duration {
    Duration::from_nanos((ms * 1e6).round() as u64)
}

/// A call that arrived now, and is read after `read`.
pub(super) fn call(read: f64) -> CallTimeline {
    CallTimeline {
        id: None,
        label: Some("qa".into()),
        program: Some("question -> answer".into()),
        trace_id: None,
        arrived: SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000),
        read: ms(read),
        deadline: None,
        stopped: None,
        answered: None,
        settled: None,
        attempts: Vec::new(),
        attempts_not_kept: 0,
        lm_calls: Vec::new(),
        lm_calls_not_kept: 0,
        tools: Vec::new(),
        tools_not_kept: 0,
        blocks: Vec::new(),
        usage: Usage::default(),
        cost: Cost::default(),
        wasted_tokens: 0,
        late_tokens: 0,
    }
}

impl CallTimeline {
    pub(super) fn with_deadline(mut self, at: f64) -> Self {
        self.deadline = Some(ms(at));
        self
    }

    pub(super) fn with_answer(mut self, at: f64, status: CallStatus) -> Self {
        self.answered = Some(CallAnswer {
            at: ms(at),
            status,
            kind: None,
            source: AnswerSource::Service,
            dropped: false,
        });
        self
    }

    pub(super) fn with_settlement(mut self, at: f64) -> Self {
        self.settled = Some(ms(at));
        self
    }

    pub(super) fn with_stop(mut self, at: f64, cause: Cause) -> Self {
        self.stopped = Some(StopSignal { at: ms(at), cause });
        self
    }

    pub(super) fn with_attempt(mut self, attempt: AttemptTimeline) -> Self {
        self.attempts.push(attempt);
        self
    }

    pub(super) fn with_lm_call(mut self, lm: LmCallTimeline) -> Self {
        self.usage.add(lm.call.usage());
        self.lm_calls.push(lm);
        self
    }
}

/// An attempt that waited 0.2 ms in the queue.
pub(super) fn attempt(number: u32, kind: AttemptKind, begun: f64) -> AttemptTimeline {
    AttemptTimeline {
        number,
        kind,
        begun: ms(begun),
        limit: None,
        queued: Some(ms(begun)),
        started: Some(ms(begun + 0.2)),
        signalled: None,
        cause: None,
        grace: Duration::ZERO,
        ended: None,
        is_answered: false,
        settled: None,
        strays: Vec::new(),
    }
}

impl AttemptTimeline {
    pub(super) fn answered(mut self, at: f64) -> Self {
        self.ended = Some(ms(at));
        self.settled = Some(ms(at));
        self.is_answered = true;
        self
    }

    pub(super) fn failed(mut self, at: f64) -> Self {
        self.ended = Some(ms(at));
        self.settled = Some(ms(at));
        self
    }

    pub(super) fn stopped(mut self, at: f64, cause: Cause, settled: f64) -> Self {
        self.signalled = Some(ms(at));
        self.cause = Some(cause);
        self.ended = Some(ms(at));
        self.settled = Some(ms(settled));
        self
    }
}

/// An LM call, all but its beginning and its end open.
pub(super) fn lm(started: f64, end: f64, outcome: LmOutcome) -> LmCallTimeline {
    let mut call = LmCall::new("openai", "gpt-4o", outcome);
    call.started = ms(started);
    call.sent = Some(ms(started + (end - started) * 0.05));
    call.duration = ms(end) - ms(started);
    LmCallTimeline {
        call,
        attempt_index: Some(0),
        is_open: false,
    }
}

impl LmCallTimeline {
    pub(super) fn for_attempt(mut self, attempt: u32) -> Self {
        self.call.call_attempt = attempt;
        self.attempt_index = Some(attempt as usize);
        self
    }

    /// Its answer comes from `first` on.
    pub(super) fn content(mut self, first: f64) -> Self {
        self.call.first_byte = Some(ms(first));
        self.call.first_content = Some(ms(first));
        self.call.status = Some(200);
        self
    }

    pub(super) fn streams(mut self, last: f64, chunks: u64) -> Self {
        self.call.is_stream = true;
        self.call.last_content = Some(ms(last));
        self.call.chunks = chunks;
        self
    }

    pub(super) fn tokens(mut self, prompt: u64, completion: u64) -> Self {
        self.call.prompt_tokens = Some(prompt);
        self.call.completion_tokens = Some(completion);
        self.call.total_tokens = Some(prompt + completion);
        self
    }

    pub(super) fn open(mut self) -> Self {
        self.is_open = true;
        self
    }
}

/// A call of `length` milliseconds with `count` LM calls, eight at a time.
pub(super) fn many_lm_calls(count: u64, length: f64) -> CallTimeline {
    let step = length / (count as f64 + 8.0);
    let mut timeline = call(length * 1.1)
        .with_deadline(length * 1.2)
        .with_answer(length, CallStatus::Completed)
        .with_settlement(length)
        .with_attempt(attempt(0, AttemptKind::First, 0.0).answered(length));
    for number in 0..count {
        let started = number as f64 * step;
        timeline = timeline.with_lm_call(
            lm(started, started + step * 8.0, LmOutcome::Answered)
                .content(started + step * 5.0)
                .tokens(100, 10),
        );
    }
    timeline
}
