//! The sentences on calls of tools and on blocks of the loop.

use super::{
    format::{bounded_name, count, length},
    selection::{MostRows, shown},
    story_line::StoryLine,
    tool_rows::tool_span,
};
use crate::call::record::{ToolTimeline, timeline::CallTimeline};

/// The sentences on calls of tools: the first and the last of many.
pub(super) fn tool_lines(call: &CallTimeline) -> Vec<StoryLine> {
    let total = call.tools.len();
    let (first, last) = shown(total, MostRows::PICTURE.tools);
    let mut lines = Vec::new();
    for (at, tool) in call.tools.iter().enumerate() {
        if at < first || at >= total - last {
            lines.extend(tool_story(call, tool));
        } else if at == first {
            let more = count((total - first - last) as u64, "more tool call");
            let text = format!("{more} began from here on, not told");
            lines.push(StoryLine::new(tool.started, text));
        }
    }
    lines
}

fn tool_story(call: &CallTimeline, tool: &ToolTimeline) -> Vec<StoryLine> {
    let name = bounded_name(&tool.name);
    let mut lines = vec![StoryLine::new(tool.started, format!("tool {name} began"))];
    if let Some(ended) = tool.ended {
        let how = if tool.failed { "failed" } else { "ended" };
        let took = length(tool_span(call, tool).length());
        lines.push(StoryLine::new(
            ended,
            format!("tool {name} {how} after {took}"),
        ));
    }
    lines
}

/// The sentences on blocks of the loop.
pub(super) fn block_lines(call: &CallTimeline) -> impl Iterator<Item = StoryLine> {
    call.blocks.iter().map(|block| {
        let frame = bounded_name(&block.frame);
        StoryLine::new(block.at, format!("its code blocks the loop: {frame}"))
    })
}

/// What the tool does that runs at the end of the reading.
pub(super) fn tool_now(call: &CallTimeline) -> Option<String> {
    let tool = call.tools.iter().rev().find(|tool| tool.ended.is_none())?;
    let so_far = length(tool_span(call, tool).length());
    Some(format!(
        "tool {} runs, {so_far} so far",
        bounded_name(&tool.name)
    ))
}
