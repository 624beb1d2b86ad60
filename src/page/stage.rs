//! The stage of a call in words.

use std::time::Duration;

use super::units::{shown, time};
use crate::call::record::timeline::{AttemptTimeline, CallTimeline, LmCallTimeline};

/// What a call does or waits for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CallStage {
    /// It waits for a permit of its program.
    Waiting,
    /// A service has it that reports no stages.
    InService,
    /// It waits for Python.
    Queued,
    /// Python code of the program runs.
    InPython,
    /// It waits for an LM.
    InLmCall {
        number: u64,
        model: String,
        for_so_long: Duration,
        awaits: LmAwaits,
        others: usize,
    },
    /// A tool of the host runs.
    InTool {
        name: String,
        for_so_long: Duration,
        others: usize,
    },
    /// Its work was signalled to stop and goes on.
    CleaningUp { since: Duration },
    /// Its last attempt has failed, whose work goes on; the next one has not begun.
    BetweenAttempts { since: Duration },
    /// It is answered and its work goes on.
    Orphaned { since: Duration },
    /// It is over, with all its work.
    Settled,
}

/// What an LM call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LmAwaits {
    /// A connection, or a permit of the LM.
    Connection,
    FirstByte,
    FirstContent,
    End,
}

impl CallStage {
    /// The stage of `call`; `has_host` if programs run it.
    pub(super) fn of(call: &CallTimeline, has_host: bool) -> Self {
        if call.settled.is_some() {
            return Self::Settled;
        }
        if call.answered.is_some() {
            let since = call.unwanted();
            return Self::Orphaned { since };
        }
        let at_work = |attempt: &&AttemptTimeline| {
            attempt.queued.is_some() && attempt.ended.is_none() && attempt.settled.is_none()
        };
        let since_signal =
            |attempt: &AttemptTimeline| attempt.signalled.map(|at| call.read.saturating_sub(at));
        let running: Vec<_> = call.attempts.iter().filter(at_work).collect();
        let wanted = running.iter().filter(|attempt| attempt.signalled.is_none());
        if let Some(since) = running.iter().find_map(|attempt| since_signal(attempt))
            && wanted.clone().next().is_none()
        {
            return Self::CleaningUp { since };
        }
        if let Some(stage) = Self::in_lm_call(call) {
            return stage;
        }
        if let Some(stage) = Self::in_tool(call) {
            return stage;
        }
        let last = call.attempts.last().filter(|_| running.is_empty());
        if let Some(ended) = last.and_then(unsettled_since) {
            let since = call.read.saturating_sub(ended);
            return Self::BetweenAttempts { since };
        }
        let mut wanted = wanted.rev();
        match wanted.next() {
            None if has_host => Self::Waiting,
            None => Self::InService,
            Some(attempt) if attempt.started.is_none() => Self::Queued,
            Some(_) => Self::InPython,
        }
    }

    fn in_lm_call(call: &CallTimeline) -> Option<Self> {
        let open = || call.lm_calls.iter().filter(|lm_call| lm_call.is_open);
        let oldest = open().min_by_key(|lm_call| lm_call.call.started)?;
        let before = call
            .lm_calls
            .iter()
            .filter(|lm_call| lm_call.call.started < oldest.call.started);
        Some(Self::InLmCall {
            number: before.count() as u64 + call.lm_calls_not_kept + 1,
            model: shown(&oldest.call.model),
            for_so_long: oldest.call.duration,
            awaits: LmAwaits::of(oldest),
            others: open().count() - 1,
        })
    }

    fn in_tool(call: &CallTimeline) -> Option<Self> {
        let open = || call.tools.iter().filter(|tool| tool.ended.is_none());
        let oldest = open().min_by_key(|tool| tool.started)?;
        Some(Self::InTool {
            name: shown(&oldest.name),
            for_so_long: call.read.saturating_sub(oldest.started),
            others: open().count() - 1,
        })
    }

    /// The stage in words.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Waiting => "waiting for a permit".to_owned(),
            Self::InService => "in the service".to_owned(),
            Self::Queued => "queued for Python".to_owned(),
            Self::InPython => "in Python".to_owned(),
            Self::InLmCall {
                number,
                model,
                for_so_long,
                awaits,
                others,
            } => {
                let beside = beside(*others);
                let awaits = awaits.words();
                format!(
                    "LM {number}: {model} {}, {awaits}{beside}",
                    time(*for_so_long)
                )
            }
            Self::InTool {
                name,
                for_so_long,
                others,
            } => {
                let beside = beside(*others);
                format!("tool {name} {}{beside}", time(*for_so_long))
            }
            Self::CleaningUp { since } => format!("cleaning up for {}", time(*since)),
            Self::BetweenAttempts { since } => {
                format!(
                    "between attempts, the last at work for {} since",
                    time(*since)
                )
            }
            Self::Orphaned { since } => format!("answered, at work for {} since", time(*since)),
            Self::Settled => "settled".to_owned(),
        }
    }

    /// Its name in a style sheet.
    pub(super) const fn class(&self) -> &'static str {
        match self {
            Self::Waiting | Self::Queued => "waits",
            Self::InPython | Self::InService => "python",
            Self::InLmCall { .. } => "lm",
            Self::InTool { .. } => "tool",
            Self::CleaningUp { .. } | Self::BetweenAttempts { .. } => "stops",
            Self::Orphaned { .. } => "orphan",
            Self::Settled => "settled",
        }
    }
}

/// When the attempt ended without an answer, if its work goes on.
fn unsettled_since(attempt: &AttemptTimeline) -> Option<Duration> {
    let goes_on = !attempt.is_answered && attempt.settled.is_none();
    attempt.ended.filter(|_| goes_on)
}

fn beside(others: usize) -> String {
    match others {
        0 => String::new(),
        others => format!(", and {others} more"),
    }
}

impl LmAwaits {
    fn of(lm_call: &LmCallTimeline) -> Self {
        let call = &lm_call.call;
        match (call.sent, call.status, call.first_content) {
            (_, _, Some(_)) => Self::End,
            (_, Some(_), None) => Self::FirstContent,
            (Some(_), None, None) => Self::FirstByte,
            (None, None, None) => Self::Connection,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Connection => "waiting for a connection",
            Self::FirstByte => "waiting for the first byte",
            Self::FirstContent => "waiting for the first content",
            Self::End => "receiving",
        }
    }
}

#[cfg(all(test, feature = "lm"))]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::call::{
        CallId, CallStatus, Cause, LmCall, LmOutcome,
        record::{AttemptRecord, CallRecord},
    };

    const MS: Duration = Duration::from_millis(1);

    fn words(record: &CallRecord) -> String {
        CallStage::of(&record.timeline(), true).words()
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_in_the_stage_of_what_it_waits_for() {
        let record = CallRecord::open();
        assert_eq!(words(&record), "waiting for a permit");
        let without_host = CallStage::of(&record.timeline(), false);
        assert_eq!(without_host.words(), "in the service");
        let attempt = AttemptRecord::new(record.clone(), 0, None);
        assert_eq!(words(&record), "queued for Python");
        attempt.started();
        assert_eq!(words(&record), "in Python");

        let lm = |model: &str| LmCall::new("openai", model, LmOutcome::Failed);
        let first = attempt.begin(lm("small"));
        advance(40 * MS).await;
        attempt.end(first, LmOutcome::Answered);
        let second = attempt.begin(lm("gpt-4o"));
        advance(3100 * MS).await;
        let connects = "LM 2: gpt-4o 3.1 s, waiting for a connection";
        assert_eq!(words(&record), connects);
        attempt.sent(second);
        assert!(words(&record).ends_with("waiting for the first byte"));
        attempt.answer_begins(second, 200);
        assert!(words(&record).ends_with("waiting for the first content"));
        advance(MS).await;
        attempt.begin(lm("beside"));
        assert!(words(&record).ends_with("content, and 1 more"));
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_goes_on_after_the_signal_cleans_up_and_after_the_answer_is_an_orphan() {
        let record = CallRecord::open();
        let attempt = AttemptRecord::new(record.clone(), 0, None);
        attempt.started();
        attempt.stop(Cause::Deadline, None);
        advance(20 * MS).await;
        assert_eq!(words(&record), "cleaning up for 20 ms");
        let is_outermost = record.track(CallId::next(), None, None);
        let answer = record.leave(is_outermost, CallStatus::TimedOut, None, false);
        assert!(answer.is_some());
        advance(30 * MS).await;
        assert_eq!(words(&record), "answered, at work for 30 ms since");
        attempt.close(Err(Some(Cause::Deadline)));
        attempt.settled(&[]);
        assert_eq!(words(&record), "settled");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_between_attempts_while_the_work_of_the_last_goes_on() {
        let record = CallRecord::open();
        record.begin_attempt(0);
        let failed = AttemptRecord::new(record.clone(), 0, None);
        failed.started();
        failed.close(Err(Some(Cause::Elapsed)));
        advance(20 * MS).await;
        let waits = "between attempts, the last at work for 20 ms since";
        assert_eq!(words(&record), waits);
        record.begin_attempt(1);
        assert_eq!(words(&record), "waiting for a permit");
        AttemptRecord::new(record.clone(), 1, None).started();
        assert_eq!(words(&record), "in Python");
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_beside_one_that_stops_is_what_a_call_does() {
        let record = CallRecord::open();
        let slow = AttemptRecord::new(record.clone(), 0, None);
        slow.started();
        slow.stop(Cause::Superseded, None);
        let hedge = AttemptRecord::new(record.clone(), 1, None);
        hedge.started();
        assert_eq!(words(&record), "in Python");
    }
}
