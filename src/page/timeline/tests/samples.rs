//! Timelines of calls as they happen.

use std::sync::Arc;

use super::builders::{attempt, call, lm, many_lm_calls, ms};
use crate::call::{
    CallStatus, Cause, ErrorKind, LmOutcome,
    record::{
        BlockTimeline, ToolTimeline,
        timeline::{AnswerSource, AttemptKind, CallTimeline, LmCallTimeline},
    },
};

pub(super) fn answered_in_time() -> CallTimeline {
    let ended = |lm: LmCallTimeline| lm.content(1200.0).tokens(812, 31);
    call(2000.0)
        .with_deadline(4000.0)
        .with_answer(1950.0, CallStatus::Completed)
        .with_settlement(1950.1)
        .with_attempt(attempt(0, AttemptKind::First, 0.1).answered(1949.9))
        .with_lm_call(ended(lm(12.0, 1900.0, LmOutcome::Answered)))
}

pub(super) fn retried() -> CallTimeline {
    let mut first = attempt(0, AttemptKind::First, 0.1).stopped(1000.0, Cause::Elapsed, 1004.0);
    first.limit = Some(ms(1000.0));
    let mut second = attempt(1, AttemptKind::Retry, 1100.0).failed(1380.0);
    second.limit = Some(ms(2100.0));
    let mut third = attempt(2, AttemptKind::Retry, 1620.0).answered(2640.0);
    third.limit = Some(ms(2620.0 + 200.0));
    third.queued = Some(ms(1700.0));
    third.started = Some(ms(1760.0));
    let mut refused = lm(1110.0, 1370.0, LmOutcome::Answered).content(1368.0);
    refused.call.status = Some(503);
    let mut timeline = call(2700.0)
        .with_deadline(4000.0)
        .with_answer(2640.2, CallStatus::Completed)
        .with_settlement(2640.4)
        .with_attempt(first)
        .with_attempt(second)
        .with_attempt(third)
        .with_lm_call(lm(15.0, 1000.4, LmOutcome::Elapsed).tokens(812, 0))
        .with_lm_call(refused.for_attempt(1))
        .with_lm_call(
            lm(1780.0, 2630.0, LmOutcome::Answered)
                .content(2300.0)
                .tokens(812, 31)
                .for_attempt(2),
        );
    timeline.wasted_tokens = 812;
    timeline
}

pub(super) fn deadline_passed() -> CallTimeline {
    let mut only = attempt(0, AttemptKind::First, 0.0).stopped(4000.0, Cause::Deadline, 4006.0);
    only.queued = Some(ms(120.0));
    only.started = Some(ms(160.0));
    only.grace = ms(250.0);
    let mut timeline = call(5000.0)
        .with_deadline(4000.0)
        .with_answer(4000.3, CallStatus::TimedOut)
        .with_settlement(4006.0)
        .with_stop(4000.0, Cause::Deadline)
        .with_attempt(only)
        .with_lm_call(
            lm(180.0, 3100.0, LmOutcome::Answered)
                .content(1900.0)
                .tokens(812, 131),
        )
        .with_lm_call(lm(3860.0, 4000.4, LmOutcome::Elapsed));
    timeline.lm_calls[1].call.sent = Some(ms(3912.0));
    if let Some(answer) = &mut timeline.answered {
        answer.kind = Some(ErrorKind::Deadline);
    }
    timeline.wasted_tokens = 943;
    timeline
}

/// A service that nobody stops: it works on for seconds.
pub(super) fn not_stopped() -> CallTimeline {
    let mut only = attempt(0, AttemptKind::First, 0.0);
    only.settled = Some(ms(9200.0));
    only.ended = Some(ms(4000.3));
    only.cause = Some(Cause::Dropped);
    only.strays = vec!["ThreadPoolExecutor-0_0".into(), "refresh_cache".into()];
    call(9500.0)
        .with_deadline(4000.0)
        .with_answer(4000.3, CallStatus::TimedOut)
        .with_settlement(9200.0)
        .with_attempt(only)
        .with_lm_call(
            lm(180.0, 3100.0, LmOutcome::Answered)
                .content(1900.0)
                .tokens(812, 131),
        )
        .with_lm_call(
            lm(3860.0, 6900.0, LmOutcome::Answered)
                .content(5100.0)
                .tokens(1812, 231),
        )
        .with_lm_call(
            lm(6940.0, 9100.0, LmOutcome::Answered)
                .content(8100.0)
                .tokens(2212, 97),
        )
}

pub(super) fn cancelled() -> CallTimeline {
    let cause = Cause::ClientGone;
    let mut only = attempt(0, AttemptKind::First, 0.0).stopped(2100.0, cause, 2190.0);
    only.grace = ms(500.0);
    call(2500.0)
        .with_deadline(10_000.0)
        .with_answer(2100.2, CallStatus::Cancelled { cause })
        .with_settlement(2190.0)
        .with_stop(2100.0, cause)
        .with_attempt(only)
        .with_lm_call(
            lm(20.0, 2100.4, LmOutcome::Cancelled)
                .content(900.0)
                .streams(2090.0, 31)
                .tokens(640, 31),
        )
}

pub(super) fn hedged() -> CallTimeline {
    let lost = attempt(0, AttemptKind::First, 0.1).stopped(1450.0, Cause::Superseded, 1452.0);
    let won = attempt(1, AttemptKind::Hedge, 800.0).answered(1449.8);
    call(1500.0)
        .with_deadline(4000.0)
        .with_answer(1450.0, CallStatus::Completed)
        .with_settlement(1452.0)
        .with_attempt(lost)
        .with_attempt(won)
        .with_lm_call(
            lm(810.0, 1440.0, LmOutcome::Answered)
                .content(1300.0)
                .tokens(812, 30)
                .for_attempt(1),
        )
        .with_lm_call(lm(15.0, 1450.3, LmOutcome::Cancelled))
}

pub(super) fn fell_back() -> CallTimeline {
    let mut refused = lm(15.0, 340.0, LmOutcome::Answered).content(338.0);
    refused.call.status = Some(429);
    let mut small = lm(360.0, 900.0, LmOutcome::Answered)
        .content(700.0)
        .tokens(400, 22)
        .for_attempt(1);
    small.call.provider = "anthropic".into();
    small.call.model = "claude-haiku".into();
    let mut timeline = call(1000.0)
        .with_deadline(4000.0)
        .with_answer(910.0, CallStatus::Completed)
        .with_settlement(910.2)
        .with_attempt(attempt(0, AttemptKind::First, 0.1).failed(345.0))
        .with_attempt(attempt(1, AttemptKind::Fallback, 345.2).answered(909.0))
        .with_lm_call(refused)
        .with_lm_call(small);
    if let Some(answer) = &mut timeline.answered {
        answer.source = AnswerSource::Fallback;
    }
    timeline
}

pub(super) fn streaming() -> CallTimeline {
    call(3100.0)
        .with_deadline(4000.0)
        .with_answer(3000.0, CallStatus::Completed)
        .with_settlement(3000.4)
        .with_attempt(attempt(0, AttemptKind::First, 0.1).answered(2999.0))
        .with_lm_call(
            lm(12.0, 2990.0, LmOutcome::Answered)
                .content(600.0)
                .streams(2950.0, 84)
                .tokens(812, 310),
        )
}

pub(super) fn under_way() -> CallTimeline {
    let mut open = lm(2100.0, 3300.0, LmOutcome::Cancelled).open();
    open.call.sent = Some(ms(2110.0));
    call(3300.0)
        .with_deadline(4000.0)
        .with_attempt(attempt(0, AttemptKind::First, 0.1))
        .with_lm_call(
            lm(12.0, 2000.0, LmOutcome::Answered)
                .content(1500.0)
                .tokens(812, 30),
        )
        .with_lm_call(open)
}

pub(super) fn with_tools() -> CallTimeline {
    let tool = |name: &str, started: f64, ended: Option<f64>, failed: bool| ToolTimeline {
        name: name.into(),
        attempt: 0,
        attempt_index: Some(0),
        started: ms(started),
        ended: ended.map(ms),
        failed,
    };
    let first = lm(12.0, 900.0, LmOutcome::Answered)
        .content(700.0)
        .tokens(812, 30);
    let second = lm(2320.0, 2900.0, LmOutcome::Answered)
        .content(2700.0)
        .tokens(1012, 44);
    let mut timeline = call(3300.0)
        .with_deadline(8000.0)
        .with_attempt(attempt(0, AttemptKind::First, 0.1))
        .with_lm_call(first)
        .with_lm_call(second);
    timeline.tools = vec![
        tool("search", 910.0, Some(1400.0), false),
        tool("fetch_page", 1410.0, Some(2300.0), true),
        tool("search", 2910.0, None, false),
    ];
    timeline.blocks = vec![BlockTimeline {
        at: ms(1500.0),
        frame: "program.py:41 tokenize".into(),
    }];
    timeline.late_tokens = 12;
    timeline
}

/// A call whose names come from somebody who means harm.
pub(super) fn hostile() -> CallTimeline {
    let name: Arc<str> = "</svg><script>alert(1)</script>\"'&\u{1b}[31m\n".into();
    let mut timeline = not_stopped();
    timeline.label = Some(name.clone());
    timeline.trace_id = Some(name.clone());
    timeline.attempts[0].strays = vec![name.clone()];
    timeline.lm_calls[0].call.model = name.clone();
    timeline.lm_calls[0].call.provider = name.clone();
    timeline.tools = with_tools().tools;
    timeline.tools[0].name = name.clone();
    timeline.blocks = with_tools().blocks;
    timeline.blocks[0].frame = name.to_string();
    timeline
}

/// Each of them with its name.
pub(super) fn all() -> Vec<(&'static str, CallTimeline)> {
    let mut with_hidden = many_lm_calls(256, 600_000.0);
    with_hidden.lm_calls_not_kept = 44;
    let mut attempts = call(40_000.0).with_deadline(60_000.0);
    for number in 0..30 {
        let begun = f64::from(number) * 1200.0;
        let kind = match number {
            0 => AttemptKind::First,
            _ => AttemptKind::Retry,
        };
        attempts = attempts.with_attempt(attempt(number, kind, begun).failed(begun + 900.0));
    }
    let waiting = {
        let mut only = attempt(0, AttemptKind::First, 0.0);
        (only.queued, only.started) = (None, None);
        call(700.0).with_deadline(4000.0).with_attempt(only)
    };
    vec![
        ("answered in time", answered_in_time()),
        ("retried, then answered", retried()),
        ("the deadline passed", deadline_passed()),
        ("nobody stopped it", not_stopped()),
        ("cancelled", cancelled()),
        ("hedged", hedged()),
        ("fell back", fell_back()),
        ("streamed", streaming()),
        ("under way", under_way()),
        ("under way, waiting", waiting),
        ("tools", with_tools()),
        ("2 ms", many_lm_calls(1, 2.0)),
        ("10 minutes", with_hidden),
        ("24 LM calls", many_lm_calls(24, 9000.0)),
        ("many attempts", attempts),
        ("hostile names", hostile()),
        ("nothing yet", call(0.0)),
        (
            "no attempts",
            call(5.0)
                .with_answer(4.0, CallStatus::Failed)
                .with_settlement(4.0),
        ),
    ]
}
