//! The rows of calls of tools.

use super::{
    format::{bounded_name, count, length},
    row::{MarkKind, Row, Stage},
    selection::first_and_last,
    stages::Span,
};
use crate::call::record::{ToolTimeline, timeline::CallTimeline};

/// A row for each call of a tool.
pub(super) fn tool_rows(call: &CallTimeline, most: usize) -> Vec<Row> {
    let mut rows = first_and_last(
        &call.tools,
        most,
        |_, tool| tool_row(call, tool),
        |hidden| {
            let from = hidden.first().map_or(call.read, |tool| tool.started);
            let end = hidden.iter().map(|tool| tool_span(call, tool).to).max();
            let span = end.map(|end| Span::new(from, end));
            let more = count(hidden.len() as u64, "more tool call");
            let row = Row::new(format!("… {more}")).label("not shown");
            row.bar(Stage::NotShown, span, "calls of tools that are not shown")
        },
    );
    if call.tools_not_kept > 0 {
        let more = count(call.tools_not_kept, "more tool call");
        rows.push(Row::new(format!("… {more}")).label("not kept"));
    }
    rows
}

/// From the beginning to the end of a call of a tool, or to now.
pub(super) fn tool_span(call: &CallTimeline, tool: &ToolTimeline) -> Span {
    Span::until(tool.started, tool.ended, call.read)
}

fn tool_row(call: &CallTimeline, tool: &ToolTimeline) -> Row {
    let name = format!("tool {}", bounded_name(&tool.name));
    let span = tool_span(call, tool);
    let took = length(span.length());
    let label = match (tool.ended, tool.failed) {
        (None, _) => format!("{took} so far"),
        (Some(_), true) => format!("failed after {took}"),
        (Some(_), false) => took,
    };
    let failed = tool.ended.filter(|_| tool.failed);
    Row::new(&name)
        .bar(Stage::Tool, Some(span), &name)
        .mark(MarkKind::Failed, failed, format!("{name} failed"))
        .label(label)
}
