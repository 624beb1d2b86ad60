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
//! Only the brackets and the quotes are looked at, and the text of a long string is skipped. Once the
//! model and the id are known, lines of a stream without a reason of the end are not read at all.

use std::sync::{Arc, LazyLock};

use memchr::{memchr, memchr3, memmem::Finder, memrchr};

use super::content::BodyFormat;
use crate::call::LmCall;

/// How deep the labels lie.
const LEVELS: usize = 3;
/// The states in which an answer of OpenAI's responses ends.
const LAST: [&str; 4] = ["completed", "incomplete", "failed", "cancelled"];
/// The ends of the keys that a reason of the end has, in all dialects.
const FINISH_KEYS: [&str; 2] = ["eason\"", "\"status\""];
/// How many objects of a stream are read in search of the model and the id. They are in the first ones;
/// Ollama has no id.
const HEADS: usize = 16;

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
    /// How many objects of a stream have begun.
    objects: usize,
    /// How many bytes of a string are kept.
    longest: usize,
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
            objects: 0,
            longest: LmCall::TEXT,
        }
    }

    /// Keeps so many bytes of a label.
    pub(super) const fn with_longest(mut self, longest: usize) -> Self {
        self.longest = longest;
        self
    }

    /// Reads a piece; true if it has a label.
    pub(super) fn read(&mut self, bytes: &[u8]) -> bool {
        let labels = &self.labels;
        let has_heads = labels.model.is_some() && labels.id.is_some() || self.objects >= HEADS;
        if !self.lines || !has_heads {
            return self.read_marks(bytes);
        }
        let is_within_line = self.depth > 0 || self.string.is_some();
        let line_end = match is_within_line {
            true => memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1),
            false => 0,
        };
        let (line, lines) = bytes.split_at(line_end);
        let found = self.read_marks(line);
        // What follows the last end of a line is continued by the next piece.
        let end = memrchr(b'\n', lines).map_or(0, |at| at + 1);
        let rest = match has_finish(&lines[..end]) {
            true => lines,
            false => &lines[end..],
        };
        self.read_marks(rest) || found
    }

    fn read_marks(&mut self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        let mut found = false;
        while let Some((byte, after)) = rest.split_first() {
            let Some(string) = self.string else {
                self.read_mark(*byte);
                rest = after;
                continue;
            };
            if std::mem::take(&mut self.escaped) && *byte != b'\n' {
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
                self.objects += usize::from(self.depth == 0);
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
            let room = self.longest.saturating_sub(self.text.len());
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

/// Whether whole lines may have a reason of the end; one that is null is none.
fn has_finish(lines: &[u8]) -> bool {
    static KEYS: LazyLock<[Finder<'static>; 2]> = LazyLock::new(|| FINISH_KEYS.map(Finder::new));
    let has_text = |key: &Finder<'_>| {
        let after_key = |at| &lines[at + key.needle().len()..];
        key.find_iter(lines).map(after_key).any(|rest| {
            let value = rest.trim_ascii_start().strip_prefix(b":");
            value.is_some_and(|value| value.trim_ascii_start().starts_with(b"\""))
        })
    };
    KEYS.iter().any(has_text)
}

/// The text, if it is not empty and all its bytes are `allowed`.
fn label(text: &[u8], allowed: impl Fn(u8) -> bool) -> Option<Arc<str>> {
    let text = str::from_utf8(text).ok()?;
    (!text.is_empty() && text.bytes().all(allowed)).then(|| text.into())
}

#[cfg(test)]
mod tests;
