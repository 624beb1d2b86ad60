//! What the program of an attempt does beside LM calls: its tools, and blocks of the loop.

use std::{sync::Arc, time::Duration};

use super::{AttemptRecord, blocks, tools::ToolId};

/// The call of a tool that has ended.
pub(crate) struct EndedTool {
    pub(crate) name: Arc<str>,
    pub(crate) took: Duration,
    /// The tool failed by itself: its attempt had not been signalled to stop.
    pub(crate) failed: bool,
}

impl AttemptRecord {
    /// The program calls a tool.
    pub(crate) fn begin_tool(&self, id: ToolId, name: &str) {
        let mut state = self.record.lock();
        let attempt = state.attempt_of(self.key);
        // A thread that outlives its attempt: nothing would report its end.
        if attempt.is_some_and(|(attempt, _)| attempt.is_at_work()) {
            state.tools.begin((self.key, self.number), id, name);
        }
    }

    /// The call of a tool has ended. Returns what is known of it, if it had not ended.
    pub(crate) fn end_tool(&self, id: ToolId, failed: bool) -> Option<EndedTool> {
        let mut state = self.record.lock();
        let (name, took) = state.tools.end(self.key, id, failed)?;
        let attempt = state.attempt_of(self.key);
        let is_stopped = attempt.is_some_and(|(attempt, _)| attempt.stopped.is_some());
        Some(EndedTool {
            name,
            took,
            failed: failed && !is_stopped,
        })
    }

    /// The program has blocked the loop for `late`, in this frame.
    pub(crate) fn blocked(&self, late: Duration, frame: &str) {
        blocks::add(&mut self.record.lock().blocks, late, frame);
    }
}
