//! The rows of the times in which code of the call blocked the loop.

use super::{
    format::bounded_name,
    row::{MarkKind, Row},
};
use crate::call::record::timeline::CallTimeline;

/// How many blocks are shown.
const MOST: usize = 4;

/// A row for each block, with the frame that blocked.
pub(super) fn block_rows(call: &CallTimeline) -> Vec<Row> {
    let shown = call.blocks.iter().take(MOST).map(|block| {
        let frame = bounded_name(&block.frame);
        let name = format!("blocks the loop: {frame}");
        Row::new("blocks the loop")
            .mark(MarkKind::Block, Some(block.at), name)
            .label(frame)
    });
    let more = call.blocks.len().saturating_sub(MOST);
    let more = (more > 0).then(|| Row::new(format!("… {more} more")).label("blocks not shown"));
    shown.chain(more).collect()
}
