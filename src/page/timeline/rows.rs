//! The rows of a call's timeline, from the top down.

use super::{
    attempt_rows::{attempt_rows, call_row, clean_up_rows, python_rows, stray_rows},
    block_rows::block_rows,
    lm_rows::lm_rows,
    row::{Row, Stage},
    selection::MostRows,
    stages::Span,
    tool_rows::tool_rows,
};
use crate::{call::record::timeline::CallTimeline, page::timeline::format::unwanted};

/// The rows of `call`: attempts, Python, LM calls, tools, clean-up, what was left behind, work for nobody.
pub(super) fn rows(call: &CallTimeline, most: MostRows) -> Vec<Row> {
    let mut rows: Vec<Row> = call_row(call).into_iter().collect();
    rows.extend(attempt_rows(call, most.attempts));
    rows.extend(python_rows(call));
    rows.extend(block_rows(call));
    rows.extend(lm_rows(call, most.lm_calls));
    rows.extend(tool_rows(call, most.tools));
    rows.extend(clean_up_rows(call));
    rows.extend(stray_rows(call));
    rows.extend(nobody_row(call));
    rows
}

/// The time between the answer and the settlement.
fn nobody_row(call: &CallTimeline) -> Option<Row> {
    let answered = call.answered?.at;
    let span = Span::until(answered, call.settled, call.read);
    let time = unwanted(span.length());
    let label = match call.settled {
        Some(_) => time,
        None => format!("{time} so far"),
    };
    let row = Row::new("work for nobody").label(label);
    Some(row.bar(Stage::Nobody, Some(span), "work for nobody"))
}
