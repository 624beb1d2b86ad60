//! The sentences on the attempts of a call.

use std::time::Duration;

use super::{
    attempt_rows::backoff,
    format::{bounded_name, count, kind, length},
    lm_rows::{lm_calls_in_order, lm_stage},
    selection::{MostRows, shown},
    stages::{AttemptSpans, attempt_outcome},
    story_line::StoryLine,
    story_lm::numbered,
    story_tools::tool_now,
};
use crate::call::{
    Cause,
    record::timeline::{AttemptKind, AttemptTimeline, CallTimeline},
};

/// Waits shorter than this are not told.
const SHORT: Duration = Duration::from_millis(1);

/// The sentences on attempts, with those on what is in them where they belong if both are at one
/// instant.
pub(super) fn attempt_lines(call: &CallTimeline, inner: Vec<StoryLine>) -> Vec<StoryLine> {
    let all = call.attempts.len();
    let (first, last) = shown(all, MostRows::PICTURE.attempts);
    let attempts = || {
        let attempts = call.attempts.iter().enumerate();
        attempts.filter(move |(at, _)| *at < first || *at >= all - last)
    };
    let mut lines = Vec::new();
    for (at, attempt) in attempts() {
        lines.extend(begin(call, at, attempt));
    }
    if let Some(hidden) = call.attempts.get(first).filter(|_| first + last < all) {
        let more = all - first - last;
        lines.push(StoryLine::new(
            hidden.begun,
            format!("{}, not told", count(more as u64, "more attempt")),
        ));
    }
    for (at, attempt) in attempts() {
        lines.extend(signal(call, at, attempt));
    }
    lines.extend(inner);
    for (at, attempt) in attempts() {
        lines.extend(end(call, at, attempt));
    }
    for (at, attempt) in attempts() {
        lines.extend(clean_up(call, at, attempt));
    }
    lines
}

/// `attempt 2`; of a single attempt `it`.
fn subject(call: &CallTimeline, at: usize) -> String {
    match call.attempts.len() {
        1 => "it".to_owned(),
        _ => format!("attempt {}", at + 1),
    }
}

fn begin(call: &CallTimeline, at: usize, attempt: &AttemptTimeline) -> Vec<StoryLine> {
    let name = subject(call, at);
    let mut lines = Vec::new();
    if let Some(kind) = kind(attempt.kind) {
        let why = match (attempt.kind, backoff(call, at, attempt)) {
            (_, Some(backoff)) => format!(", after {} of backoff", length(backoff.length())),
            (AttemptKind::Hedge, None) => ", beside one that is slow".to_owned(),
            _ => String::new(),
        };
        let text = format!("attempt {} ({kind}) began{why}", at + 1);
        lines.push(StoryLine::new(attempt.begun, text));
    }
    let spans = AttemptSpans::of(call, at, attempt);
    let waits = [
        (spans.permit, "for a permit"),
        (spans.queue, "in the queue"),
    ];
    let waits: Vec<_> = waits
        .into_iter()
        .filter_map(|(span, of)| Some((span?.length(), of)))
        .filter(|(wait, _)| *wait >= SHORT)
        .map(|(wait, of)| format!("{} {of}", length(wait)))
        .collect();
    if let Some(started) = attempt.started {
        let after = if waits.is_empty() {
            String::new()
        } else {
            format!(", after {}", waits.join(" and "))
        };
        let text = format!("Python began to run {name}{after}");
        lines.push(StoryLine::new(started, text));
    }
    lines
}

/// The signal to stop.
fn signal(call: &CallTimeline, at: usize, attempt: &AttemptTimeline) -> Option<StoryLine> {
    let told = attempt.signalled?;
    let several = call.attempts.len() > 1;
    let why = match attempt.cause {
        Some(Cause::Deadline) => "deadline passed",
        Some(Cause::Elapsed) if several => "its limit passed",
        Some(Cause::Elapsed) => "the limit of the attempt passed",
        Some(Cause::Caller) => "cancelled by the caller",
        Some(Cause::ClientGone) => "the client went away",
        Some(Cause::Shutdown) => "shutdown",
        Some(Cause::Dropped) => "its future was dropped",
        Some(Cause::Superseded) => "another attempt answered first",
        None => return Some(StoryLine::new(told, "told to stop")),
    };
    let text = match attempt.cause {
        Some(Cause::Elapsed) if several => {
            format!("limit of attempt {} passed: told to stop", at + 1)
        }
        _ if several => format!("{why}: attempt {} told to stop", at + 1),
        _ => format!("{why}: told to stop"),
    };
    Some(StoryLine::new(told, text))
}

fn end(call: &CallTimeline, at: usize, attempt: &AttemptTimeline) -> Option<StoryLine> {
    // The signal says why one ended that was stopped; the answer of the call how a single one did.
    let single = call.attempts.len() == 1 && call.answered.is_some();
    if attempt.signalled.is_some() || single {
        return None;
    }
    let outcome = attempt_outcome(call, attempt)?;
    let text = format!("attempt {} {outcome}", at + 1);
    let text = match attempt.cause {
        Some(_) if !attempt.is_answered => format!("attempt {} ended: {outcome}", at + 1),
        _ => text,
    };
    Some(StoryLine::new(attempt.ended?, text))
}

fn clean_up(call: &CallTimeline, at: usize, attempt: &AttemptTimeline) -> Vec<StoryLine> {
    let several = call.attempts.len() > 1;
    let spans = AttemptSpans::of(call, at, attempt);
    let ran = spans.clean_up.filter(|span| !span.is_open);
    let mut lines = Vec::new();
    if let Some(ran) = ran {
        let of = if several {
            format!(" of attempt {}", at + 1)
        } else {
            String::new()
        };
        let grace = match attempt.grace {
            none if none.is_zero() => String::new(),
            grace => format!(", of {} that it had", length(grace)),
        };
        let text = format!("clean-up{of} ran {}{grace}", length(ran.length()));
        lines.push(StoryLine::new(ran.to, text));
    }
    if let (false, Some(settled)) = (attempt.strays.is_empty(), attempt.settled) {
        let names: Vec<_> = attempt
            .strays
            .iter()
            .map(|name| bounded_name(name))
            .collect();
        let text = format!(
            "ended what {} left behind: {}",
            subject(call, at),
            names.join(", ")
        );
        lines.push(StoryLine::new(settled, text));
    }
    lines
}

/// What a call does at the end of its reading.
pub(super) fn doing_now(call: &CallTimeline) -> String {
    let lm_calls = lm_calls_in_order(call);
    let mut open = lm_calls.iter().enumerate().filter(|(_, lm)| lm.is_open);
    if let Some((at, lm)) = open.next_back() {
        let more = open.count();
        let also = match more {
            0 => String::new(),
            1 => "; another LM call is under way".to_owned(),
            more => format!("; {more} other LM calls are under way"),
        };
        let so_far = length(lm.call.duration);
        return format!(
            "{} {}, {so_far} so far{also}",
            numbered(at, lm),
            lm_stage(lm)
        );
    }
    if let Some(tool) = tool_now(call) {
        return tool;
    }
    let attempts = call.attempts.iter().enumerate().rev();
    let going = attempts.filter(|(_, attempt)| attempt.settled.is_none());
    for (at, attempt) in going {
        let spans = AttemptSpans::of(call, at, attempt);
        let name = subject(call, at);
        if spans.clean_up.is_some_and(|span| span.is_open) {
            return format!("clean-up of {name} goes on").replace(" of it ", " ");
        }
        if spans.python.is_some_and(|span| span.is_open) {
            return format!("Python runs {name}");
        }
        if spans.queue.is_some_and(|span| span.is_open) {
            return format!("{name} waits in the queue");
        }
        if spans.permit.is_some_and(|span| span.is_open) {
            return format!("{name} waits for a permit");
        }
        if spans.run.is_some_and(|span| span.is_open) {
            return format!("{name} runs");
        }
    }
    let between = call.answered.is_none() && !call.attempts.is_empty();
    let doing = if between {
        "no attempt is under way"
    } else {
        "no attempt is recorded"
    };
    doing.to_owned()
}
