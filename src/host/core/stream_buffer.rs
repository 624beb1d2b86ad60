//! The buffer between a program that writes its answer and the reader of it.
//!
//! Invariants:
//! 1. Events are read in the order in which the program reported them; unread deltas of one text
//!    that follow each other are one event.
//! 2. A program that waits for its reader goes on when less than [`LOW`] bytes are unread. It sends at
//!    most `WINDOW` bytes of text (`call_stream.py`) between two waits, so that each of its tasks has
//!    at most that and one delta unread. Statuses and tools do not wait before the next LM call; an
//!    answer that is not streamed is one event.
//! 3. For each wanted text field of an LM call that DSPy parsed, the deltas add up to it, or a
//!    `Replace` has it.

use std::{
    collections::BTreeMap,
    fmt, mem,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use serde_json::{Map, Value};
use tokio::sync::Notify;

use super::{
    event_queue::EventQueue, stream_report::StreamReport, streamed_lm_call::StreamedLmCall,
};
use crate::stream::StreamEvent;

/// The unread bytes below which a program that waits goes on: half of its window.
const LOW: usize = 16 * 1024;

/// The events of one call that are not read yet.
#[derive(Default)]
pub(crate) struct StreamBuffer {
    state: Mutex<StreamBufferState>,
    /// Notified when events are read.
    read: Notify,
}

#[derive(Default)]
struct StreamBufferState {
    queue: EventQueue,
    /// Those that are under way, those that have ended, and of each predictor those that failed since
    /// its last one began.
    lm_calls: BTreeMap<u64, StreamedLmCall>,
    reader: Option<Waker>,
    /// No event is accepted any more.
    closed: bool,
}

impl StreamBuffer {
    fn state(&self) -> MutexGuard<'_, StreamBufferState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state with a function that sends events, and wakes the reader if it did.
    fn write(&self, write: impl FnOnce(&mut BTreeMap<u64, StreamedLmCall>, &mut EventQueue)) {
        let mut state = self.state();
        let StreamBufferState {
            queue,
            lm_calls,
            reader,
            closed,
        } = &mut *state;
        if *closed {
            return;
        }
        write(lm_calls, queue);
        let reader = reader.take_if(|_| !queue.is_empty());
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// More text of an LM call.
    pub(crate) fn text(&self, lm_call: u64, delta: &str) {
        self.write(|lm_calls, queue| {
            if let Some(lm_call) = lm_calls.get_mut(&lm_call) {
                lm_call.push(delta, &mut |event| queue.push(event));
            }
        });
    }

    /// More of the model's thinking.
    pub(crate) fn thinking(&self, lm_call: u64, delta: String) {
        self.write(|lm_calls, queue| {
            if let Some(lm_call) = lm_calls.get_mut(&lm_call).filter(|_| !delta.is_empty()) {
                lm_call.think(delta, &mut |event| queue.push(event));
            }
        });
    }

    pub(crate) fn report(&self, report: StreamReport) {
        self.write(|lm_calls, queue| {
            let mut send = |event| queue.push(event);
            match report {
                StreamReport::Begin {
                    lm_call,
                    predictor,
                    format,
                    fields,
                } => {
                    lm_calls.retain(|_, call| call.holds() || !call.is_of(&predictor));
                    let begun = StreamedLmCall::new(lm_call, predictor, format, fields);
                    lm_calls.insert(lm_call, begun);
                }
                StreamReport::Values { lm_call, values } => {
                    if let Some(finished) = lm_calls.get_mut(&lm_call) {
                        finished.finish(&values, &mut send);
                        let written = finished.written();
                        lm_calls.retain(|n, call| *n >= lm_call || !call.forget(&written));
                    }
                }
                StreamReport::Restart { lm_call } => {
                    if let Some(lm_call) = lm_calls.get_mut(&lm_call) {
                        lm_call.restart(&mut send);
                    }
                }
                StreamReport::Unstreamed { fields } => {
                    // The program's answer is not that of an earlier LM call.
                    lm_calls.retain(|_, call| !call.forget(&fields));
                }
                StreamReport::Status { message } => send(StreamEvent::Status { message }),
                StreamReport::ToolCall {
                    id,
                    name,
                    arguments,
                } => send(StreamEvent::ToolCall {
                    id,
                    name,
                    arguments,
                }),
                StreamReport::ToolResult {
                    id,
                    name,
                    value,
                    error,
                } => send(StreamEvent::ToolResult {
                    id,
                    name,
                    result: error.map_or(Ok(value), Err),
                }),
            }
        });
    }

    /// Replaces the last text of each field that the program answers differently.
    pub(crate) fn correct(&self, outputs: &Map<String, Value>) {
        self.write(|lm_calls, queue| {
            for (field, value) in outputs {
                let Value::String(value) = value else {
                    continue;
                };
                let mut last_first = lm_calls.values_mut().rev();
                let has_field = |call: &&mut StreamedLmCall| {
                    call.holds() && call.texts().any(|(name, _)| name == field)
                };
                let last = last_first.find(has_field);
                if let Some(lm_call) = last {
                    lm_call.correct(field, value, &mut |event| queue.push(event));
                }
            }
        });
    }

    /// The last text of each field, as the partial answer of a call that is stopped.
    pub(crate) fn texts(&self) -> Map<String, Value> {
        let state = self.state();
        let texts = state.lm_calls.values().flat_map(StreamedLmCall::texts);
        texts
            .map(|(field, text)| (field.to_owned(), text.into()))
            .collect()
    }

    /// Whether there is an event; the reader is woken when one comes.
    pub(crate) fn poll_any(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if !state.queue.is_empty() {
            return Poll::Ready(());
        }
        match &mut state.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            reader => *reader = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// The next event, if there is one.
    pub(crate) fn pop(&self) -> Option<StreamEvent> {
        let mut state = self.state();
        let event = state.queue.pop();
        let is_low = state.queue.bytes() < LOW;
        drop(state);
        if is_low && event.is_some() {
            self.read.notify_waiters();
        }
        event
    }

    /// Accepts no more events. The unread ones may still be read.
    pub(crate) fn close(&self) {
        self.state().closed = true;
    }

    /// Closes the buffer and drops all that it holds: nobody reads it any more.
    pub(crate) fn clear(&self) {
        let closed = StreamBufferState {
            closed: true,
            ..StreamBufferState::default()
        };
        let state = mem::replace(&mut *self.state(), closed);
        drop(state);
        self.read.notify_waiters();
    }

    /// Waits until the reader has read enough.
    pub(crate) async fn read_enough(&self) {
        loop {
            let read = self.read.notified();
            if self.state().queue.bytes() < LOW {
                return;
            }
            read.await;
        }
    }
}

impl fmt::Debug for StreamBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("StreamBuffer")
            .field("unread", &state.queue.len())
            .field("bytes", &state.queue.bytes())
            .field("closed", &state.closed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;

    fn report(buffer: &StreamBuffer, report: Value) {
        buffer.report(serde_json::from_value(report).expect("a report"));
    }

    fn begun(format: &str, fields: Value) -> StreamBuffer {
        let buffer = StreamBuffer::default();
        let begin = json!({"lm_call": 1, "predictor": "p", "format": format, "fields": fields});
        report(&buffer, json!({"begin": begin}));
        buffer
    }

    /// The events, as short texts.
    fn events(buffer: &StreamBuffer) -> Vec<String> {
        let events = std::iter::from_fn(|| buffer.pop());
        let shown = events.map(|event| match event {
            StreamEvent::Text { field, delta, .. } => format!("{field}+{delta}"),
            StreamEvent::Replace { field, text, .. } => format!("{field}={text}"),
            StreamEvent::Restart { lm_call, .. } => format!("restart {lm_call}"),
            StreamEvent::Status { message } => message,
            other => format!("{other:?}"),
        });
        shown.collect()
    }

    #[test]
    fn unread_deltas_of_one_field_are_one_event() {
        let buffer = begun("raw", json!([]));
        for delta in ["a", "b"] {
            buffer.text(1, delta);
        }
        report(&buffer, json!({"status": {"message": "on its way"}}));
        buffer.text(1, "c");
        buffer.text(2, "of no LM call");
        assert_eq!(events(&buffer), ["+ab", "on its way", "+c"]);
    }

    #[test]
    fn the_reader_is_woken_by_an_event() {
        let buffer = begun("raw", json!([]));
        let mut reader = task::spawn(());
        reader.enter(|cx, _| assert_pending!(buffer.poll_any(cx)));
        buffer.text(1, "");
        assert!(!reader.is_woken());
        buffer.text(1, "a");
        assert!(reader.is_woken());
        reader.enter(|cx, _| assert_ready!(buffer.poll_any(cx)));
    }

    #[test]
    fn a_text_that_does_not_hold_is_replaced_or_taken_back() {
        let fields = json!([["answer", true, true], ["score", false, true]]);
        let buffer = begun("chat", fields.clone());
        buffer.text(1, "[[ ## answer ## ]]\nfour\n\n[[ ## score ## ]]\n1");
        let values = json!({"answer": "four", "score": "1"});
        report(&buffer, json!({"values": {"lm_call": 1, "values": values}}));
        assert_eq!(events(&buffer), ["answer+four"]);
        assert_eq!(Value::Object(buffer.texts()), json!({"answer": "four"}));
        let begin = json!({"lm_call": 2, "predictor": "p", "format": "chat", "fields": fields});
        report(&buffer, json!({"begin": begin}));
        buffer.text(2, "[[ ## answer ## ]]\nfive\n");
        assert_eq!(Value::Object(buffer.texts()), json!({"answer": "five"}));
        report(&buffer, json!({"restart": {"lm_call": 2}}));
        // If none follows, it is all that there was.
        assert_eq!(Value::Object(buffer.texts()), json!({"answer": "five"}));
        let begin = json!({"lm_call": 3, "predictor": "p", "format": "chat", "fields": fields});
        report(&buffer, json!({"begin": begin}));
        assert_eq!(Value::Object(buffer.texts()), json!({"answer": "four"}));
        let corrected = json!({"answer": "FOUR", "score": 1, "other": "text"});
        buffer.correct(corrected.as_object().expect("an object"));
        assert_eq!(events(&buffer), ["answer+five", "restart 2", "answer=FOUR"]);
    }

    #[tokio::test]
    async fn a_program_waits_until_half_of_its_window_is_read() {
        let buffer = Arc::new(begun("raw", json!([])));
        buffer.read_enough().await;
        buffer.text(1, &"x".repeat(LOW));
        report(&buffer, json!({"status": {"message": "y".repeat(LOW)}}));
        let mut waits = task::spawn(buffer.read_enough());
        assert_pending!(waits.poll());
        buffer.pop();
        assert_pending!(waits.poll());
        buffer.pop();
        assert!(waits.is_woken());
        assert_ready!(waits.poll());
    }

    #[test]
    fn the_answer_of_a_later_lm_call_that_is_not_streamed_changes_no_earlier_text() {
        let buffer = begun("chat", json!([["answer", true, true]]));
        buffer.text(1, "[[ ## answer ## ]]\na draft");
        let values = json!({"lm_call": 1, "values": {"answer": "a draft"}});
        report(&buffer, json!({"values": values}));
        report(&buffer, json!({"unstreamed": {"fields": ["answer"]}}));
        let outputs = json!({"answer": "the answer"});
        buffer.correct(outputs.as_object().expect("an object"));
        assert_eq!(events(&buffer).concat(), "answer+a draft");
    }

    #[test]
    fn a_closed_buffer_can_be_read_and_a_cleared_one_is_empty() {
        let buffer = begun("raw", json!([]));
        buffer.text(1, "a");
        buffer.close();
        buffer.text(1, "b");
        assert_eq!(events(&buffer), ["+a"]);
        let buffer = begun("raw", json!([]));
        buffer.text(1, "a");
        buffer.clear();
        assert!(events(&buffer).is_empty() && buffer.texts().is_empty());
    }
}
