//! The rows of attempts: as layers see them, in Python, at their clean-up.

use std::time::Duration;

use super::{
    format::{bounded_name, count, kind, length},
    row::{Bar, MarkKind, Row, Stage, lanes},
    selection::first_and_last,
    stages::{AttemptSpans, Span, attempt_outcome},
    verticals::outcome_parts,
};
use crate::call::{
    Cause,
    record::timeline::{AttemptKind, AttemptTimeline, CallTimeline},
};

/// How many names of what was left behind are shown.
const MOST_STRAYS: usize = 6;

/// A row for each attempt: its waits, its run, its limit.
pub(super) fn attempt_rows(call: &CallTimeline, most: usize) -> Vec<Row> {
    let mut rows = first_and_last(
        &call.attempts,
        most,
        |at, attempt| attempt_row(call, at, attempt),
        |hidden| {
            let from = hidden.first().map_or(call.read, |first| first.begun);
            let ends = hidden.iter().map(|one| one.ended.unwrap_or(one.begun));
            let span = ends.max().map(|end| Span::new(from, end));
            let more = count(hidden.len() as u64, "more attempt");
            let row = Row::new(format!("… {more}")).label("not shown");
            row.bar(Stage::NotShown, span, "attempts that are not shown")
        },
    );
    if call.attempts_not_kept > 0 {
        let more = count(call.attempts_not_kept, "more attempt");
        rows.push(Row::new(format!("… {more}")).label("not kept"));
    }
    rows
}

/// The call as a whole, if it has no attempts.
pub(super) fn call_row(call: &CallTimeline) -> Option<Row> {
    if !call.attempts.is_empty() {
        return None;
    }
    let answered = call.answered.map(|answer| answer.at);
    let span = Span::until(Duration::ZERO, answered, call.read);
    let label = match call.answered {
        Some(answer) => format!("{} after {}", outcome_parts(&answer).0, length(answer.at)),
        None => format!("under way for {}", length(call.read)),
    };
    let row = Row::new("call").bar(Stage::Attempt, Some(span), "call");
    Some(row.label(label))
}

fn attempt_row(call: &CallTimeline, at: usize, attempt: &AttemptTimeline) -> Row {
    let name = attempt_name(at, attempt);
    let spans = AttemptSpans::of(call, at, attempt);
    let outcome = attempt_outcome(call, attempt);
    let total = [spans.permit, spans.queue, spans.run];
    let last = total.into_iter().flatten().last();
    let end = last.map_or(attempt.begun, |span| span.to);
    let begun = total.into_iter().flatten().next();
    let begun = begun.map_or(attempt.begun, |span| span.from);
    let label = match (outcome, spans.run) {
        (Some(outcome), _) => format!("{outcome} after {}", length(end - begun.min(end))),
        (None, None) if spans.queue.is_some() => "waits in the queue".to_owned(),
        (None, None) => "waits for a permit".to_owned(),
        (None, Some(run)) => format!("under way for {}", length(run.length())),
    };
    let is_superseded = attempt.cause == Some(Cause::Superseded);
    let mut row = Row::new(&name)
        .bar(Stage::Backoff, backoff(call, at, attempt), "backoff")
        .bar(
            Stage::Permit,
            spans.permit,
            format!("{name} waits for a permit"),
        )
        .bar(
            Stage::Queue,
            spans.queue,
            format!("{name} waits in the queue"),
        )
        .bar(Stage::Attempt, spans.run, &name)
        .mark(MarkKind::Limit, attempt.limit, format!("limit of {name}"))
        .label(label);
    row.is_struck = is_superseded;
    row
}

/// `attempt 2 (retry)`: counted from 1 in the order in which attempts began.
pub(super) fn attempt_name(at: usize, attempt: &AttemptTimeline) -> String {
    let name = format!("attempt {}", at + 1);
    kind(attempt.kind).map_or(name.clone(), |kind| format!("{name} ({kind})"))
}

/// The wait of a retry since the attempt before it ended.
pub(super) fn backoff(call: &CallTimeline, at: usize, attempt: &AttemptTimeline) -> Option<Span> {
    if attempt.kind != AttemptKind::Retry {
        return None;
    }
    let before = call.attempts.get(at.checked_sub(1)?)?;
    let span = Span::new(before.ended?, attempt.begun);
    (!span.length().is_zero()).then_some(span)
}

/// When Python ran attempts, until they ended or were signalled to stop.
pub(super) fn python_rows(call: &CallTimeline) -> Vec<Row> {
    let several = call.attempts.len() > 1;
    let bars = call
        .attempts
        .iter()
        .enumerate()
        .filter_map(|(at, attempt)| {
            let span = AttemptSpans::of(call, at, attempt).python?;
            let name = if several {
                format!("{} in Python", attempt_name(at, attempt))
            } else {
                "in Python".to_owned()
            };
            let bar = Bar {
                stage: Stage::Python,
                span,
                name,
            };
            Some((bar, None))
        });
    let mut rows = lanes("Python", bars.collect());
    for row in &mut rows {
        if let [bar] = &*row.bars {
            row.label = if bar.span.is_open {
                format!("{} so far", length(bar.span.length()))
            } else {
                length(bar.span.length())
            };
        }
    }
    rows
}

/// When work that was signalled to stop went on, with the time that it was given.
pub(super) fn clean_up_rows(call: &CallTimeline) -> Vec<Row> {
    let several = call.attempts.len() > 1;
    let bars = call
        .attempts
        .iter()
        .enumerate()
        .filter_map(|(at, attempt)| {
            let span = AttemptSpans::of(call, at, attempt).clean_up?;
            let name = if several {
                format!("clean-up of {}", attempt_name(at, attempt))
            } else {
                "clean-up".to_owned()
            };
            let grace = (!attempt.grace.is_zero())
                .then(|| Span::new(span.from, span.from.saturating_add(attempt.grace)));
            let bar = Bar {
                stage: Stage::CleanUp,
                span,
                name,
            };
            Some((bar, grace))
        });
    let mut rows = lanes("clean-up", bars.collect());
    for row in &mut rows {
        if let [bar] = &*row.bars {
            let ran = length(bar.span.length());
            let so_far = if bar.span.is_open { " so far" } else { "" };
            let of = row
                .grace
                .map(|grace| format!(" of {} grace", length(grace.length())));
            row.label = format!("{ran}{}{so_far}", of.unwrap_or_default());
        }
    }
    rows
}

/// What attempts left behind, by name, from their end to their settlement.
pub(super) fn stray_rows(call: &CallTimeline) -> Vec<Row> {
    let strays: Vec<_> = call
        .attempts
        .iter()
        .flat_map(|attempt| attempt.strays.iter().map(move |name| (attempt, name)))
        .collect();
    let more = strays.len().saturating_sub(MOST_STRAYS);
    let shown = strays.into_iter().take(MOST_STRAYS);
    let mut rows: Vec<Row> = shown
        .map(|(attempt, name)| {
            let ended = attempt.signalled.or(attempt.ended);
            let span = ended.map(|ended| Span::until(ended, attempt.settled, call.read));
            let name = bounded_name(name);
            Row::new("left behind")
                .bar(Stage::Stray, span, format!("left behind: {name}"))
                .label(name)
        })
        .collect();
    if more > 0 {
        rows.push(Row::new(format!("… {more} more")).label("left behind as well"));
    }
    rows
}
