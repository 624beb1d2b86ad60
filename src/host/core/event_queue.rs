//! The events of a stream that are not read yet, in their order.

use std::collections::VecDeque;

use serde_json::Value;

use crate::stream::StreamEvent;

/// What an event, or a value in one, takes beside its text, about.
const OVERHEAD: usize = 64;

/// The unread bytes above which a status takes the place of the one before it: what sends statuses does
/// not wait for the reader.
pub(super) const MOST: usize = 256 * 1024;

/// Unread events. Deltas of one text that follow each other are one event.
#[derive(Default)]
pub(super) struct EventQueue {
    events: VecDeque<StreamEvent>,
    bytes: usize,
}

impl EventQueue {
    pub(super) fn push(&mut self, event: StreamEvent) {
        use StreamEvent::{Text, Thinking};
        let continued = match (self.events.back_mut(), &event) {
            (
                Some(Text {
                    lm_call: last_call,
                    field: last_field,
                    delta: last,
                    ..
                }),
                Text {
                    lm_call,
                    field,
                    delta,
                    ..
                },
            ) if (&*last_call, &*last_field) == (lm_call, field) => Some((last, delta)),
            (
                Some(Thinking {
                    lm_call: last_call,
                    delta: last,
                    ..
                }),
                Thinking { lm_call, delta, .. },
            ) if last_call == lm_call => Some((last, delta)),
            _ => None,
        };
        if let Some((last, delta)) = continued {
            last.push_str(delta);
            self.bytes += delta.len();
            return;
        }
        let is_status = |event: &StreamEvent| matches!(event, StreamEvent::Status { .. });
        if self.bytes > MOST
            && is_status(&event)
            && let Some(last) = self.events.iter().rposition(is_status)
        {
            let replaced = self.events.remove(last);
            self.bytes -= replaced.as_ref().map_or(0, size);
        }
        self.bytes += size(&event);
        self.events.push_back(event);
    }

    pub(super) fn pop(&mut self) -> Option<StreamEvent> {
        let event = self.events.pop_front()?;
        self.bytes = self.bytes.saturating_sub(size(&event));
        Some(event)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// The bytes that the events count for.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The bytes that an event counts for.
fn size(event: &StreamEvent) -> usize {
    let content = match event {
        StreamEvent::Text { delta, .. } | StreamEvent::Thinking { delta, .. } => delta.len(),
        StreamEvent::Replace { text, .. } => text.len(),
        StreamEvent::Status { message } => message.len(),
        StreamEvent::ToolCall { arguments, .. } => size_of_value(arguments),
        StreamEvent::ToolResult { result, .. } => match result {
            Ok(value) => size_of_value(value),
            Err(message) => message.len(),
        },
        StreamEvent::Restart { .. } | StreamEvent::Done(_) => 0,
    };
    OVERHEAD + content
}

fn size_of_value(value: &Value) -> usize {
    let content = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size_of_value).sum(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| name.len() + size_of_value(value))
            .sum(),
    };
    OVERHEAD + content
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn name(name: &str) -> Arc<str> {
        Arc::from(name)
    }

    fn thinking(lm_call: u64, delta: &str) -> StreamEvent {
        StreamEvent::Thinking {
            lm_call,
            predictor: name("p"),
            delta: delta.to_owned(),
        }
    }

    #[test]
    fn unread_deltas_of_thinking_are_one_event() {
        let mut queue = EventQueue::default();
        for (lm_call, delta) in [(1, "a"), (1, "b"), (2, "c"), (1, "d")] {
            queue.push(thinking(lm_call, delta));
        }
        let events: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        let expected = [(1, "ab"), (2, "c"), (1, "d")].map(|(n, delta)| thinking(n, delta));
        assert_eq!((events, queue.bytes()), (expected.to_vec(), 0));
    }

    #[test]
    fn statuses_without_end_take_bounded_memory_and_the_last_is_kept() {
        let mut queue = EventQueue::default();
        for n in 0..50_000 {
            let message = n.to_string();
            queue.push(StreamEvent::Status { message });
        }
        assert!(queue.bytes() <= MOST + 2 * OVERHEAD);
        let status = |n: u32| {
            let message = n.to_string();
            Some(StreamEvent::Status { message })
        };
        assert_eq!(
            (queue.pop(), queue.events.pop_back()),
            (status(0), status(49_999))
        );
    }

    #[test]
    fn the_values_of_tools_count() {
        let long = "x".repeat(1000);
        let (id, name) = (1, name("search"));
        let events = [
            StreamEvent::ToolCall {
                id,
                name: name.clone(),
                arguments: json!({"query": long}),
            },
            StreamEvent::ToolResult {
                id,
                name: name.clone(),
                result: Ok(json!([{"passage": long}, null])),
            },
            StreamEvent::ToolResult {
                id,
                name,
                result: Err(long.clone()),
            },
        ];
        for event in events {
            let mut queue = EventQueue::default();
            queue.push(event);
            assert!(queue.bytes() > 1000, "{}", queue.bytes());
            queue.pop();
            assert_eq!(queue.bytes(), 0);
        }
    }
}
