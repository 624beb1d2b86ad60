//! The server-sent events that one event of a program is in a dialect.

use std::collections::VecDeque;

use ::axum::response::sse::Event;
use serde::Serialize;

/// What is to be sent before the program's stream is read again.
#[derive(Debug, Default)]
pub(super) struct SseQueue(VecDeque<Event>);

impl SseQueue {
    /// Appends `data: <JSON>`.
    pub(super) fn json(&mut self, data: &impl Serialize) {
        self.0.push_back(Event::default().data(to_line(data)));
    }

    /// Appends `event: <name>` and `data: <JSON>`.
    pub(super) fn named(&mut self, name: &'static str, data: &impl Serialize) {
        self.0
            .push_back(Event::default().event(name).data(to_line(data)));
    }

    /// Appends the event by which OpenAI's and Vercel's streams end.
    pub(super) fn done(&mut self) {
        self.0.push_back(Event::default().data("[DONE]"));
    }

    pub(super) fn pop(&mut self) -> Option<Event> {
        self.0.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// JSON in one line: within a string, line breaks are escaped.
fn to_line(data: &impl Serialize) -> String {
    // Structs, strings, numbers and JSON values: there is nothing in it that cannot be written.
    serde_json::to_string(data).unwrap_or_default()
}
