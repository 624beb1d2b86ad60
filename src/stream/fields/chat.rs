//! The grammar of `ChatAdapter`: sections below headers such as `[[ ## answer ## ]]`.
//!
//! A header stands at the beginning of a line, after whitespace; what follows on its line belongs
//! to the section, as do the lines up to the next header. The text before the first header belongs
//! to no field. Lines are those of Python's `str.splitlines`, and are joined by `\n`.

use super::field_text::{FieldText, is_space};

const HEADER_START: &str = "[[ ## ";
const HEADER_END: &str = " ## ]]";

/// Reads a text in the form of `ChatAdapter`.
#[derive(Debug)]
pub(super) struct ChatParser {
    line: ChatLine,
    /// The beginning of a header, which is not known to be one yet.
    header: String,
    /// The last char was a carriage return: a line feed is part of the same line break.
    after_return: bool,
    /// The line has a header.
    is_header_line: bool,
}

/// A place in a line.
#[derive(Clone, Copy, Debug)]
enum ChatLine {
    /// After so many chars of whitespace.
    Indent(usize),
    /// Within what may be a header after so many chars of whitespace.
    Header { indent: usize, part: HeaderPart },
    /// Where no header can begin.
    Text,
}

/// A place in a header.
#[derive(Clone, Copy, Debug)]
enum HeaderPart {
    /// After so many bytes of [`HEADER_START`].
    Start(usize),
    Name,
    /// After so many bytes of [`HEADER_END`].
    End(usize),
}

impl Default for ChatParser {
    fn default() -> Self {
        Self {
            line: ChatLine::Indent(0),
            header: String::new(),
            after_return: false,
            is_header_line: false,
        }
    }
}

impl ChatParser {
    pub(super) fn read(&mut self, char: char, text: &mut FieldText) {
        let after_return = std::mem::replace(&mut self.after_return, char == '\r');
        if is_line_break(char) {
            if !(char == '\n' && after_return) {
                self.break_line(text);
            }
            return;
        }
        self.line = match self.line {
            ChatLine::Text => {
                text.push(char);
                ChatLine::Text
            }
            ChatLine::Indent(indent) if is_space(char) => {
                text.push(char);
                ChatLine::Indent(indent + 1)
            }
            ChatLine::Indent(indent) => self.read_header(char, indent, HeaderPart::Start(0), text),
            ChatLine::Header { indent, part } => self.read_header(char, indent, part, text),
        };
    }

    /// The text has ended: what was held back was no header.
    pub(super) fn finish(&mut self, text: &mut FieldText) {
        self.drop_header(text);
        text.close();
    }

    fn break_line(&mut self, text: &mut FieldText) {
        self.drop_header(text);
        if std::mem::take(&mut self.is_header_line) {
            text.drop_space();
        }
        text.push('\n');
        self.line = ChatLine::Indent(0);
    }

    fn read_header(
        &mut self,
        char: char,
        indent: usize,
        part: HeaderPart,
        text: &mut FieldText,
    ) -> ChatLine {
        self.header.push(char);
        match part.after(char) {
            None => {
                self.drop_header(text);
                ChatLine::Text
            }
            Some(HeaderPart::End(length)) if length == HEADER_END.len() => {
                self.open_section(indent, text);
                ChatLine::Text
            }
            Some(part) => ChatLine::Header { indent, part },
        }
    }

    /// What was held back is no header.
    fn drop_header(&mut self, text: &mut FieldText) {
        text.push_str(&self.header);
        self.header.clear();
    }

    fn open_section(&mut self, indent: usize, text: &mut FieldText) {
        let name = HEADER_START.len()..self.header.len() - HEADER_END.len();
        text.open(&self.header[name], true);
        // DSPy cuts the header off by its length, but from the line with its indent: as many chars
        // of the header's end stay.
        let length = self.header.chars().count();
        let cut = length - length.min(indent);
        self.header
            .chars()
            .skip(cut)
            .for_each(|char| text.push(char));
        self.header.clear();
        self.is_header_line = true;
    }
}

impl HeaderPart {
    /// The place after the char; `None` if the char is part of no header there.
    fn after(self, char: char) -> Option<Self> {
        let is_next = |marker: &str, at: usize| marker[at..].starts_with(char);
        match self {
            Self::Start(at) if at < HEADER_START.len() => {
                is_next(HEADER_START, at).then_some(Self::Start(at + 1))
            }
            Self::Start(_) => is_word(char).then_some(Self::Name),
            Self::Name if is_word(char) => Some(Self::Name),
            Self::Name => is_next(HEADER_END, 0).then_some(Self::End(1)),
            Self::End(at) => is_next(HEADER_END, at).then_some(Self::End(at + 1)),
        }
    }
}

/// Whether Python's `\w` matches the char.
fn is_word(char: char) -> bool {
    char == '_' || char.is_alphanumeric()
}

/// Whether Python's `str.splitlines` ends a line at the char.
fn is_line_break(char: char) -> bool {
    matches!(
        char,
        '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}
