//! The timeline of a call as a picture, as sentences, as text and as a file for other tools.

mod attempt_rows;
mod block_rows;
mod costs;
mod drawing;
pub(crate) mod format;
pub(super) mod html;
mod label;
mod legend;
mod lm_rows;
pub(super) mod perfetto;
mod row;
mod row_svg;
mod rows;
mod scale;
mod selection;
mod stages;
pub(super) mod story;
mod story_attempts;
pub(super) mod story_line;
mod story_lm;
mod story_tools;
pub(super) mod style;
pub(super) mod svg;
#[cfg(test)]
mod tests;
pub(super) mod text;
mod tool_rows;
pub(crate) mod verticals;
