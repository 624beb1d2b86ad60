//! The timeline of a call as plain text.

use std::{fmt::Write as _, time::Duration};

use super::{
    format::{bounded_name, offset, shortened},
    row::{MarkKind, Row, Stage},
    rows::rows,
    scale::{Scale, shown_until},
    selection::MostRows,
    story::{gist, timeline_story},
    verticals::verticals,
};
use crate::call::record::timeline::CallTimeline;

/// How many columns the names of rows take.
const NAMES: usize = 22;
/// How many columns the time takes.
const COLUMNS: usize = 75;

/// The timeline of `call` as plain text, for a terminal: what it is, a picture of characters that is 100
/// columns wide, and its story in sentences.
///
/// It is bounded as the picture of [`timeline_svg`](crate::page::timeline_svg) is. Control characters in
/// names are replaced.
///
/// ```
/// use tower_dspy::{page::timeline_text, timeline::CallTimeline};
///
/// fn print(call: &CallTimeline) {
///     println!("{}", timeline_text(call));
/// }
/// ```
#[must_use]
pub fn timeline_text(call: &CallTimeline) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_text(&mut text, call);
    text
}

fn write_text(text: &mut String, call: &CallTimeline) -> std::fmt::Result {
    let name = bounded_name(call.name());
    match call.id {
        Some(id) => writeln!(text, "call {id}: {name}")?,
        None => writeln!(text, "{name}")?,
    }
    let arrived = humantime::format_rfc3339_millis(call.arrived);
    writeln!(text, "arrived {arrived}")?;
    if let Some(trace_id) = &call.trace_id {
        writeln!(text, "trace {}", shortened(trace_id, 32))?;
    }
    writeln!(text, "{}\n", gist(call))?;
    write_picture(text, call)?;
    for line in timeline_story(call).to_string().lines() {
        writeln!(text, "{}", shortened(line, 400))?;
    }
    Ok(())
}

/// Rows of letters on a scale, and below them what the letters stand for.
fn write_picture(text: &mut String, call: &CallTimeline) -> std::fmt::Result {
    let scale = Scale::new(shown_until(call), 0.0, (COLUMNS - 1) as f64);
    let rows = rows(call, MostRows::PICTURE);
    let lines = verticals(call);
    let mut ruler = vec![' '; COLUMNS];
    // From the right, each on the left of the one after it, if both are in one column.
    let mut next = COLUMNS;
    for line in lines.iter().rev().filter(|line| scale.has(line.at)) {
        next = column(&scale, line.at).min(next.saturating_sub(1));
        put(&mut ruler, next, line.kind.letter());
    }
    writeln!(text, "{:NAMES$} |{}|", "", ruler.iter().collect::<String>())?;
    for row in &rows {
        let name = shortened(&row.name, NAMES);
        let mut columns = vec![' '; COLUMNS];
        draw(&mut columns, &scale, row);
        let columns: String = columns.iter().collect();
        writeln!(text, "{name:NAMES$} |{columns}|")?;
    }
    let end = offset(scale.end);
    let gap = COLUMNS - 1;
    writeln!(text, "{:NAMES$}  0{end:>gap$}\n", "")?;
    let used = |stage: &Stage| {
        rows.iter()
            .flat_map(|row| &row.bars)
            .any(|bar| bar.stage == *stage)
    };
    let stages = Stage::ALL.into_iter().filter(used);
    let stages = stages.map(|stage| format!("{} {}", stage.letter(), stage.name()));
    let lines = lines
        .iter()
        .map(|line| format!("{} {}", line.kind.letter(), line.label));
    let used = |kind: &MarkKind| {
        let mut marks = rows.iter().flat_map(|row| &row.marks);
        marks.any(|mark| mark.kind == *kind && scale.has(mark.at))
    };
    let marks = MarkKind::ALL.into_iter().filter(used);
    let marks = marks.map(|kind| format!("{} {}", kind.letter(), kind.name()));
    let legend: Vec<_> = lines.chain(stages).chain(marks).collect();
    for line in wrapped(&legend, NAMES + COLUMNS) {
        writeln!(text, "{line}")?;
    }
    writeln!(text)
}

fn column(scale: &Scale, at: Duration) -> usize {
    scale.x(at).floor() as usize
}

fn put(columns: &mut [char], at: usize, letter: char) {
    if let Some(column) = columns.get_mut(at) {
        *column = letter;
    }
}

fn draw(columns: &mut [char], scale: &Scale, row: &Row) {
    for bar in &row.bars {
        let from = column(scale, bar.span.from);
        let to = column(scale, bar.span.to);
        // A bar does not cover the one before it, unless it would be invisible.
        for at in from..to.max(from + 1) {
            put(columns, at, bar.stage.letter());
        }
        if bar.span.is_open {
            put(columns, to, '>');
        }
    }
    for mark in row.marks.iter().filter(|mark| scale.has(mark.at)) {
        put(columns, column(scale, mark.at), mark.kind.letter());
    }
}

/// The items on lines of at most `wide` characters.
fn wrapped(items: &[String], wide: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        match lines.last_mut() {
            Some(line) if line.chars().count() + item.chars().count() + 3 <= wide => {
                line.push_str("   ");
                line.push_str(item);
            }
            _ => lines.push(item.clone()),
        }
    }
    lines
}
