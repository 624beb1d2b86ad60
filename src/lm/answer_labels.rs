//! The reader of what a provider says of its answer beside the answer: the model, an id, and why it
//! ended.
//!
//! They are read by their place in the JSON, so that nothing that the model wrote is taken for one:
//! the input of a tool, in Anthropic's and Gemini's answers, is JSON itself.
//!
//! | dialect | model | id | reason of the end |
//! |---|---|---|---|
//! | OpenAI's chat completions | `model` | `id` | `choices[].finish_reason` |
//! | OpenAI's responses | `[response.]model` | `[response.]id` | `[response.]incomplete_details.reason`, else a last `status` |
//! | Anthropic's messages | `[message.]model` | `[message.]id` | `[delta.]stop_reason` |
//! | Gemini | `modelVersion` | `responseId` | `candidates[].finishReason` |
//! | Ollama | `model` | | `done_reason` |
//!
//! Only the brackets and the quotes are looked at, and the text of a long string is skipped.

use std::sync::Arc;

use memchr::memchr3;

use super::content::BodyFormat;
use crate::call::LmCall;

/// How deep the labels lie.
const LEVELS: usize = 3;
/// The states in which an answer of OpenAI's responses ends.
const LAST: [&str; 4] = ["completed", "incomplete", "failed", "cancelled"];

/// What a provider says of its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AnswerLabels {
    pub(super) model: Option<Arc<str>>,
    pub(super) id: Option<Arc<str>>,
    pub(super) finish_reason: Option<Arc<str>>,
}

/// A key on the way to a label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LabelKey {
    #[default]
    Other,
    /// No key, but a place in an array.
    Element,
    Id,
    Model,
    Finish,
    Status,
    Reason,
    Response,
    Message,
    Delta,
    List,
    Details,
}

impl LabelKey {
    fn of(key: &[u8]) -> Self {
        match key {
            b"id" | b"responseId" => Self::Id,
            b"model" | b"modelVersion" => Self::Model,
            b"finish_reason" | b"stop_reason" | b"done_reason" | b"finishReason" => Self::Finish,
            b"status" => Self::Status,
            b"reason" => Self::Reason,
            b"response" => Self::Response,
            b"message" => Self::Message,
            b"delta" => Self::Delta,
            b"choices" | b"candidates" => Self::List,
            b"incomplete_details" => Self::Details,
            _ => Self::Other,
        }
    }
}

/// What a string is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LabelText {
    Skipped,
    Key,
    Model,
    Id,
    Finish,
    Status,
}

/// Reads an answer piece by piece, cut anywhere. It keeps a bounded part of one string.
#[derive(Debug)]
pub(super) struct LabelReader {
    pub(super) labels: AnswerLabels,
    /// A line is JSON of its own.
    lines: bool,
    /// How many objects and arrays are open.
    depth: usize,
    /// The last key of each, as far as labels lie.
    path: [LabelKey; LEVELS],
    /// The next string is a key.
    key_next: bool,
    string: Option<LabelText>,
    /// The next byte is the rest of an escape.
    escaped: bool,
    text: Vec<u8>,
}

impl LabelReader {
    /// A reader of a body of this format.
    pub(super) fn new(format: BodyFormat) -> Self {
        Self {
            labels: AnswerLabels::default(),
            lines: format != BodyFormat::Whole,
            depth: 0,
            path: [LabelKey::Other; LEVELS],
            key_next: false,
            string: None,
            escaped: false,
            text: Vec::new(),
        }
    }

    /// Reads a piece; true if it has a label.
    pub(super) fn read(&mut self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        let mut found = false;
        while let Some((byte, after)) = rest.split_first() {
            let Some(string) = self.string else {
                self.read_mark(*byte);
                rest = after;
                continue;
            };
            if std::mem::take(&mut self.escaped) {
                rest = after;
                continue;
            }
            let end = memchr3(b'"', b'\\', b'\n', rest).unwrap_or(rest.len());
            let (text, after) = rest.split_at(end);
            self.keep(string, text);
            let Some((mark, after)) = after.split_first() else {
                return found;
            };
            rest = after;
            match mark {
                b'"' => found |= self.end_string(string),
                b'\\' => {
                    self.escaped = true;
                    // No label has an escape.
                    self.string = Some(LabelText::Skipped);
                }
                // Not within a string of JSON.
                _ => self.reset(),
            }
        }
        found
    }

    /// Reads a byte between strings.
    fn read_mark(&mut self, byte: u8) {
        match byte {
            b'\n' if self.lines => self.reset(),
            b'{' | b'[' if self.depth > 0 || byte == b'{' => {
                let key = match byte {
                    b'[' => LabelKey::Element,
                    _ => LabelKey::Other,
                };
                if let Some(level) = self.path.get_mut(self.depth) {
                    *level = key;
                }
                self.depth += 1;
                self.key_next = byte == b'{';
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.key_next = false;
            }
            b',' => {
                let level = self.path.get(self.depth.wrapping_sub(1));
                self.key_next = level.is_some_and(|level| *level != LabelKey::Element);
            }
            b':' => self.key_next = false,
            // Outside of JSON, in a comment of a stream perhaps, a quote begins nothing.
            b'"' if self.depth > 0 => {
                self.text.clear();
                self.string = Some(self.next_string());
            }
            _ => {}
        }
    }

    fn next_string(&self) -> LabelText {
        use LabelKey::{Delta, Details, Element, Finish, Id, List, Message, Model, Reason};
        use LabelKey::{Response, Status};
        let Some(path) = self.path.get(..self.depth) else {
            return LabelText::Skipped;
        };
        if self.key_next {
            return LabelText::Key;
        }
        match path {
            [Model] | [Response | Message, Model] => LabelText::Model,
            [Id] | [Response | Message, Id] => LabelText::Id,
            [Finish] | [Delta, Finish] | [List, Element, Finish] => LabelText::Finish,
            [Details, Reason] | [Response, Details, Reason] => LabelText::Finish,
            [Status] | [Response, Status] => LabelText::Status,
            _ => LabelText::Skipped,
        }
    }

    fn keep(&mut self, string: LabelText, text: &[u8]) {
        if string != LabelText::Skipped {
            let room = LmCall::TEXT.saturating_sub(self.text.len());
            self.text.extend_from_slice(&text[..text.len().min(room)]);
        }
    }

    /// Ends a string; true if it is a label.
    fn end_string(&mut self, string: LabelText) -> bool {
        self.string = None;
        let label = match string {
            LabelText::Skipped => return false,
            LabelText::Key => {
                if let Some(level) = self.path.get_mut(self.depth - 1) {
                    *level = LabelKey::of(&self.text);
                }
                return false;
            }
            // The first holds.
            LabelText::Model if self.labels.model.is_some() => return false,
            LabelText::Id if self.labels.id.is_some() => return false,
            LabelText::Model | LabelText::Id => label(&self.text, |byte| byte.is_ascii_graphic()),
            LabelText::Finish | LabelText::Status => {
                let is_word =
                    |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
                label(&self.text, is_word)
            }
        };
        let Some(label) = label else {
            return false;
        };
        let labels = &mut self.labels;
        match string {
            LabelText::Model => labels.model = Some(label),
            LabelText::Id => labels.id = Some(label),
            // The reason says more than the state.
            LabelText::Status if labels.finish_reason.is_some() => return false,
            LabelText::Status if !LAST.contains(&&*label) => return false,
            _ => labels.finish_reason = Some(label),
        }
        true
    }

    fn reset(&mut self) {
        self.depth = 0;
        self.string = None;
        self.key_next = false;
    }
}

/// The text, if it is not empty and all its bytes are `allowed`.
fn label(text: &[u8], allowed: impl Fn(u8) -> bool) -> Option<Arc<str>> {
    let text = str::from_utf8(text).ok()?;
    (!text.is_empty() && text.bytes().all(allowed)).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    type Read = (Option<String>, Option<String>, Option<String>);

    fn read_by(format: BodyFormat, body: &[u8], size: usize) -> Read {
        let mut reader = LabelReader::new(format);
        for piece in body.chunks(size) {
            reader.read(piece);
        }
        let labels = reader.labels;
        let text = |label: Option<Arc<str>>| label.map(|label| label.to_string());
        (
            text(labels.model),
            text(labels.id),
            text(labels.finish_reason),
        )
    }

    /// The model, the id and the reason of the end.
    fn labels(body: &str) -> Read {
        let format = match body.starts_with('{') || body.starts_with('[') {
            true => BodyFormat::Whole,
            false => BodyFormat::Events,
        };
        let whole = read_by(format, body.as_bytes(), usize::MAX);
        for size in [1, 2, 7] {
            assert_eq!(read_by(format, body.as_bytes(), size), whole, "{body}");
        }
        whole
    }

    fn read(model: &str, id: &str, finish: &str) -> Read {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        (text(model), text(id), text(finish))
    }

    #[test]
    fn the_labels_of_a_whole_answer_are_read_in_each_dialect() {
        let chat = r#"{"id": "c-1", "object": "chat.completion", "model": "gpt-x",
            "choices": [{"message": {"content": "a \"model\": \"b\"", "tool_calls":
            [{"id": "t"}]}, "finish_reason": "stop"}], "service_tier": "default"}"#;
        assert_eq!(labels(chat), read("gpt-x", "c-1", "stop"));
        let responses = r#"{"id":"r-1","object":"response","status":"incomplete","error":null,
            "incomplete_details":{"reason":"max_output_tokens"},"model":"gpt-x",
            "output":[{"id":"m","status":"completed"}]}"#;
        assert_eq!(labels(responses), read("gpt-x", "r-1", "max_output_tokens"));
        let anthropic = r#"{"id":"msg_1","type":"message","model":"claude-x","content":[
            {"type":"tool_use","id":"t","input":{"id":"secret","model":"secret",
            "stop_reason":"secret","message":{"id":"secret"}}}],"stop_reason":"tool_use"}"#;
        assert_eq!(labels(anthropic), read("claude-x", "msg_1", "tool_use"));
        let gemini = r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f",
            "args":{"responseId":"secret","finishReason":"secret"}}}]},"finishReason":"STOP"}],
            "modelVersion":"gemini-x","responseId":"g-1"}"#;
        assert_eq!(labels(gemini), read("gemini-x", "g-1", "STOP"));
        assert_eq!(
            labels(&format!("[{gemini}\n,{gemini}]")),
            read("gemini-x", "g-1", "STOP")
        );
        let ollama = r#"{"model":"l","message":{"content":"a"},"done_reason":"stop","done":true}"#;
        assert_eq!(labels(ollama), read("l", "", "stop"));
    }

    #[test]
    fn the_labels_of_a_stream_are_read_in_each_dialect() {
        let chat = concat!(
            ": it's \"id\": {\"id\": \"no\n\n",
            "data: {\"id\":\"c-1\",\"choices\":[{\"delta\":{\"content\":\"\\\\\"},\"finish_reason\":null}],\"model\":\"gpt-x\"}\n\n",
            "data: {\"id\":\"c-2\",\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n",
        );
        assert_eq!(labels(chat), read("gpt-x", "c-1", "length"));
        let responses = concat!(
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r-1\",\"status\":\"in_progress\",\"model\":\"gpt-x\"}}\n\n",
            "data: {\"type\":\"response.completed\",\"response\":{\"id\":\"r-1\",\"status\":\"completed\"}}\n\n",
        );
        assert_eq!(labels(responses), read("gpt-x", "r-1", "completed"));
        let anthropic = concat!(
            "event: message_start\r\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"claude-x\",\"stop_reason\":null}}\r\n\r\n",
            "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\r\n\r\n",
        );
        assert_eq!(labels(anthropic), read("claude-x", "msg_1", "end_turn"));
    }

    #[test]
    fn a_label_is_bounded_and_one_that_is_no_word_is_dropped() {
        let long = "x".repeat(1000);
        let body = format!(r#"{{"model": "{long}", "id": "a b", "stop_reason": "the user: x"}}"#);
        assert_eq!(labels(&body), read(&"x".repeat(LmCall::TEXT), "", ""));
        let odd = r#"{"model": "a\u0000b", "id": 7, "stop_reason": ["x"], "done_reason": {}}"#;
        assert_eq!(labels(odd), read("", "", ""));
        assert_eq!(labels("{\"model\": \"ç\"}"), read("", "", ""));
    }

    proptest! {
        #[test]
        fn no_body_makes_the_reader_panic_or_grow(
            body in vec(prop_oneof![
                prop::sample::select(b"{}[]\",:\\\n".to_vec()),
                any::<u8>(),
            ], 0..2000),
            size in 1_usize..50,
        ) {
            for format in [BodyFormat::Whole, BodyFormat::Events] {
                let mut reader = LabelReader::new(format);
                for piece in body.chunks(size) {
                    reader.read(piece);
                }
                prop_assert!(reader.text.len() <= LmCall::TEXT);
            }
        }
    }
}
