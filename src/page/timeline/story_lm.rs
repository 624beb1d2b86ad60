//! The sentences on the LM calls of a call.

use super::{
    format::{count, length, lm_name},
    lm_rows::{lm_calls_in_order, lm_tokens, signal_name},
    selection::{MostRows, shown},
    stages::{lm_after_stop, lm_end},
    story_line::StoryLine,
};
use crate::call::{
    LmOutcome,
    record::timeline::{CallTimeline, LmCallTimeline},
};

/// The sentences on LM calls: the first and the last of many.
pub(super) fn lm_lines(call: &CallTimeline) -> Vec<StoryLine> {
    let lm_calls = lm_calls_in_order(call);
    let total = lm_calls.len();
    let (first, last) = shown(total, MostRows::PICTURE.lm_calls);
    let mut lines = Vec::new();
    for (at, lm) in lm_calls.iter().enumerate() {
        if at < first || at >= total - last {
            lines.extend(begin(at, lm));
            lines.extend(end(call, at, lm));
        } else if at == first {
            let more = (total - first - last) as u64;
            let text = format!(
                "{} began from here on, not told",
                count(more, "more LM call")
            );
            lines.push(StoryLine::new(lm.call.started, text));
        }
    }
    lines
}

/// `LM call 2 (openai/gpt-4o)`.
pub(super) fn numbered(at: usize, lm: &LmCallTimeline) -> String {
    format!("LM call {} ({})", at + 1, lm_name(&lm.call))
}

fn begin(at: usize, lm: &LmCallTimeline) -> Vec<StoryLine> {
    let call = &lm.call;
    let name = numbered(at, lm);
    if call.outcome == LmOutcome::Refused && !lm.is_open {
        return Vec::new();
    }
    let again = match call.attempt {
        0 => String::new(),
        attempt => format!(", attempt {}", attempt + 1),
    };
    let mut lines = vec![match call.sent {
        Some(sent) => StoryLine::new(
            sent,
            format!("{name} was sent{again}, waits for its first byte"),
        ),
        None => StoryLine::new(call.started, format!("{name} began{again}")),
    }];
    if let Some(first) = call.first_content.filter(|_| call.is_stream) {
        lines.push(StoryLine::new(
            first,
            format!("LM call {}: first content", at + 1),
        ));
    }
    lines
}

fn end(call: &CallTimeline, at: usize, lm: &LmCallTimeline) -> Option<StoryLine> {
    if lm.is_open {
        return None;
    }
    let number = at + 1;
    let took = length(lm.call.duration);
    let tokens = lm_tokens(lm).map(|tokens| format!("; {tokens}"));
    let tokens = tokens.unwrap_or_default();
    let text = match lm.call.outcome {
        LmOutcome::Answered => match lm.call.status {
            Some(status) if status >= 400 => {
                format!("LM call {number} answered with status {status} after {took}{tokens}")
            }
            _ => format!("LM call {number} answered after {took}{tokens}"),
        },
        LmOutcome::Cancelled | LmOutcome::Elapsed => {
            let closed = format!("the connection of LM call {number} was closed");
            match lm_after_stop(call, lm) {
                Some((cause, after)) => {
                    let after = length(after);
                    format!("{closed}, {after} after {}{tokens}", signal_name(cause))
                }
                None if lm.call.outcome == LmOutcome::Elapsed => {
                    format!("{closed} at its limit, after {took}{tokens}")
                }
                None => format!("{closed}, after {took}{tokens}"),
            }
        }
        LmOutcome::Refused => format!("{} was not sent", numbered(at, lm)),
        LmOutcome::Failed => format!("LM call {number} failed after {took}{tokens}"),
    };
    Some(StoryLine::new(lm_end(lm), text))
}
