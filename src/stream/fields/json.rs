//! The grammar of `JSONAdapter`: an object with a value for each field.
//!
//! DSPy repairs what is not JSON. Read here is what both read alike: text around the object, such as
//! a code fence or prose, and in strings line breaks and escapes that JSON does not have. At all else
//! that is not JSON the parser stops.

use super::{
    field_text::FieldText,
    json_string::{JsonString, StringPart},
};

/// Reads a text in the form of `JSONAdapter`.
#[derive(Debug, Default)]
pub(super) struct JsonParser {
    place: JsonPlace,
    string: JsonString,
    key: String,
    /// The brackets that are open within a value.
    nested: Vec<char>,
}

/// A place in the text.
#[derive(Clone, Copy, Debug, Default)]
enum JsonPlace {
    #[default]
    BeforeObject,
    BeforeKey,
    Key,
    BeforeColon,
    BeforeValue,
    /// In a string that is the value of a field.
    Text,
    /// In a number or a literal.
    Scalar,
    /// In an object or a list that is a value.
    Nested,
    NestedText,
    AfterValue,
    /// After the object, or after what is not JSON.
    End,
}

impl JsonParser {
    pub(super) fn read(&mut self, char: char, text: &mut FieldText) {
        self.place = match self.place {
            JsonPlace::BeforeObject if char == '{' => JsonPlace::BeforeKey,
            JsonPlace::BeforeObject => JsonPlace::BeforeObject,
            JsonPlace::Key => match self.string.read(char, |char| self.key.push(char)) {
                StringPart::Inside => JsonPlace::Key,
                StringPart::End => JsonPlace::BeforeColon,
                StringPart::Unknown => JsonPlace::End,
            },
            JsonPlace::Text => match self.string.read(char, |char| text.push(char)) {
                StringPart::Inside => JsonPlace::Text,
                StringPart::End => {
                    self.end_text(text);
                    JsonPlace::AfterValue
                }
                StringPart::Unknown => {
                    text.close();
                    JsonPlace::End
                }
            },
            JsonPlace::NestedText => match self.string.read(char, |_| {}) {
                StringPart::Inside => JsonPlace::NestedText,
                StringPart::End => JsonPlace::Nested,
                StringPart::Unknown => JsonPlace::End,
            },
            JsonPlace::Nested => self.read_nested(char),
            JsonPlace::Scalar if is_scalar(char) => JsonPlace::Scalar,
            JsonPlace::End => JsonPlace::End,
            place if matches!(char, ' ' | '\t' | '\n' | '\r') => match place {
                JsonPlace::Scalar => JsonPlace::AfterValue,
                place => place,
            },
            JsonPlace::BeforeKey => match char {
                '"' => {
                    self.key.clear();
                    JsonPlace::Key
                }
                _ => JsonPlace::End,
            },
            JsonPlace::BeforeColon if char == ':' => JsonPlace::BeforeValue,
            JsonPlace::BeforeColon => JsonPlace::End,
            JsonPlace::BeforeValue => match char {
                '"' => {
                    text.open(&self.key, false);
                    JsonPlace::Text
                }
                '{' | '[' => self.read_nested(char),
                _ if is_scalar(char) => JsonPlace::Scalar,
                _ => JsonPlace::End,
            },
            JsonPlace::AfterValue | JsonPlace::Scalar => match char {
                ',' => JsonPlace::BeforeKey,
                _ => JsonPlace::End,
            },
        };
    }

    /// The text has ended: an escape sequence that it cuts stays as it is.
    pub(super) fn finish(&mut self, text: &mut FieldText) {
        if matches!(self.place, JsonPlace::Text) {
            self.string.finish(|char| text.push(char));
            text.close();
        }
    }

    /// The string of a field has ended. Of a string that ends with a line break the repair drops the
    /// whitespace at the end.
    fn end_text(&self, text: &mut FieldText) {
        if self.string.is_strict() || !text.space().ends_with('\n') {
            text.keep_space();
        }
        text.close();
    }

    fn read_nested(&mut self, char: char) -> JsonPlace {
        match char {
            '"' => return JsonPlace::NestedText,
            '{' => self.nested.push('}'),
            '[' => self.nested.push(']'),
            '}' | ']' if self.nested.pop() != Some(char) => return JsonPlace::End,
            _ => {}
        }
        if self.nested.is_empty() {
            JsonPlace::AfterValue
        } else {
            JsonPlace::Nested
        }
    }
}

/// Whether the char may be part of a number or a literal.
fn is_scalar(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '-' | '+' | '.')
}
