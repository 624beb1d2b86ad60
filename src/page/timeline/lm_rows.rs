//! The rows of LM calls.

use std::time::Duration;

use super::{
    format::{bounded_name, count, length, lm_name, thousands},
    row::{MarkKind, Row, Stage},
    selection::first_and_last,
    stages::{Span, attempt_of, lm_after_stop, lm_end},
};
use crate::call::{
    Cause, LmOutcome,
    record::timeline::{CallTimeline, LmCallTimeline},
};

/// The LM calls in the order in which they began; their numbers count from 1 in it.
pub(super) fn lm_calls_in_order(call: &CallTimeline) -> Vec<&LmCallTimeline> {
    let mut lm_calls: Vec<_> = call.lm_calls.iter().collect();
    lm_calls.sort_by_key(|lm| lm.call.started);
    lm_calls
}

/// A row for each LM call: connect, until the first byte, the answer.
pub(super) fn lm_rows(call: &CallTimeline, most: usize) -> Vec<Row> {
    let lm_calls = lm_calls_in_order(call);
    let mut rows = first_and_last(
        &lm_calls,
        most,
        |at, lm| lm_row(call, at, lm),
        |hidden| {
            let from = hidden.first().map_or(call.read, |lm| lm.call.started);
            let end = hidden.iter().map(|lm| lm_end(lm)).max();
            let span = end.map(|end| Span::new(from, end));
            let more = count(hidden.len() as u64, "more LM call");
            let row = Row::new(format!("… {more}")).label("not shown");
            row.bar(Stage::NotShown, span, "LM calls that are not shown")
        },
    );
    if call.lm_calls_not_kept > 0 {
        let more = count(call.lm_calls_not_kept, "more LM call");
        rows.push(Row::new(format!("… {more}")).label("not kept"));
    }
    rows
}

fn lm_row(call: &CallTimeline, at: usize, lm: &LmCallTimeline) -> Row {
    let number = at + 1;
    let end = lm_end(lm);
    let LmSpans {
        connect,
        first_byte,
        body,
    } = LmSpans::of(lm);
    let name = format!("LM call {number} ({})", lm_name(&lm.call));
    let outcome = lm.call.outcome;
    let is_cut = matches!(outcome, LmOutcome::Cancelled | LmOutcome::Elapsed);
    let at_end = |is: bool| (is && !lm.is_open).then_some(end);
    let last_content = lm.call.last_content.filter(|_| lm.call.chunks > 1);
    let several = call.attempts.len() > 1;
    let attempt = attempt_of(call, lm).filter(|_| several);
    let of = attempt.map(|(at, _)| format!("attempt {}: ", at + 1));
    let label = format!("{}{}", of.unwrap_or_default(), lm_label(call, lm));
    Row::new(format!("LM {number} {}", bounded_name(&lm.call.model)))
        .bar(Stage::Connect, connect, format!("{name} connects"))
        .bar(
            Stage::FirstByte,
            first_byte,
            format!("{name} waits for its first byte"),
        )
        .bar(Stage::Body, body, format!("{name}: its answer comes"))
        .mark(
            MarkKind::Content,
            lm.call.first_content,
            format!("{name}: first content"),
        )
        .mark(
            MarkKind::Content,
            last_content,
            format!("{name}: last content"),
        )
        .mark(
            MarkKind::Closed,
            at_end(is_cut),
            format!("{name}: connection closed"),
        )
        .mark(
            MarkKind::Failed,
            at_end(outcome == LmOutcome::Failed),
            format!("{name} failed"),
        )
        .label(label)
}

/// The stages of an LM call.
pub(super) struct LmSpans {
    pub(super) connect: Option<Span>,
    pub(super) first_byte: Option<Span>,
    pub(super) body: Option<Span>,
}

impl LmSpans {
    pub(super) fn of(lm: &LmCallTimeline) -> Self {
        let end = lm_end(lm);
        let call = &lm.call;
        // A service that reports no stages has one bar.
        let first_byte_at = call.first_byte.or(call.first_content);
        let reports = call.sent.is_some() || first_byte_at.is_some();
        let was_taken = call.status.is_some() || call.outcome == LmOutcome::Answered;
        if !reports && was_taken && !lm.is_open {
            let body = Some(Span::new(call.started, end));
            return Self {
                connect: None,
                first_byte: None,
                body,
            };
        }
        let span = |from: Duration, to: Option<Duration>| Span {
            is_open: lm.is_open && to.is_none(),
            ..Span::new(from, to.unwrap_or(end).min(end))
        };
        let sent = call.sent.or(first_byte_at);
        Self {
            connect: Some(span(call.started, sent)),
            first_byte: sent.map(|sent| span(sent, first_byte_at)),
            body: first_byte_at.map(|first_byte| span(first_byte, None)),
        }
    }
}

/// What is to know of an LM call, in a phrase.
fn lm_label(call: &CallTimeline, lm: &LmCallTimeline) -> String {
    if lm.is_open {
        let chunks = lm_chunks(lm).map(|chunks| format!(" in {chunks}"));
        let so_far = length(lm.call.duration);
        return format!(
            "{}{}, {so_far} so far",
            lm_stage(lm),
            chunks.unwrap_or_default()
        );
    }
    let took = length(lm.call.duration);
    let tokens = lm_tokens(lm);
    let parts = tokens.into_iter().chain(lm_chunks(lm));
    let and_tokens: String = parts.map(|part| format!("; {part}")).collect();
    match lm.call.outcome {
        LmOutcome::Answered => match lm.call.status {
            Some(status) if status >= 400 => format!("status {status} after {took}{and_tokens}"),
            _ => format!("{took}{and_tokens}"),
        },
        LmOutcome::Cancelled | LmOutcome::Elapsed => match lm_after_stop(call, lm) {
            Some((cause, after)) => {
                let of = signal_name(cause);
                format!("closed {} after {of}{and_tokens}", length(after))
            }
            None if lm.call.outcome == LmOutcome::Elapsed => {
                format!("closed at its limit, after {took}{and_tokens}")
            }
            None => format!("closed after {took}{and_tokens}"),
        },
        LmOutcome::Refused => "not sent".to_owned(),
        LmOutcome::Failed => format!("failed after {took}{and_tokens}"),
    }
}

/// What the signal to stop was, in a word.
pub(super) const fn signal_name(cause: Option<Cause>) -> &'static str {
    match cause {
        Some(Cause::Deadline) => "the deadline",
        Some(Cause::Elapsed) => "the limit",
        _ => "cancel",
    }
}

/// What an LM call that is under way does.
pub(super) fn lm_stage(lm: &LmCallTimeline) -> &'static str {
    let call = &lm.call;
    match (call.sent, call.first_byte, call.first_content) {
        (None, None, None) => "connects",
        (Some(_), None, None) => "waits for its first byte",
        (_, Some(_), None) => "waits for its first content",
        (_, _, Some(_)) => "its answer comes",
    }
}

/// How many chunks of a stream came: `37 chunks`.
fn lm_chunks(lm: &LmCallTimeline) -> Option<String> {
    let chunks = lm.call.chunks;
    (lm.call.is_stream && chunks > 0).then(|| count(chunks, "chunk"))
}

/// Its tokens, as far as the provider counted them: `812 + 31 tokens`.
pub(super) fn lm_tokens(lm: &LmCallTimeline) -> Option<String> {
    let call = &lm.call;
    match (call.prompt_tokens, call.completion_tokens) {
        (Some(prompt), Some(0)) => Some(format!("{} in", count(prompt, "token"))),
        (Some(prompt), Some(completion)) => Some(format!(
            "{} + {} tokens",
            thousands(prompt),
            thousands(completion)
        )),
        (None, Some(tokens)) | (Some(tokens), None) => Some(count(tokens, "token")),
        (None, None) => call.total_tokens.map(|tokens| count(tokens, "token")),
    }
}
