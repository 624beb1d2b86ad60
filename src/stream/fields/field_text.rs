//! The text of the output fields, as far as it was read and not emitted yet.

use std::sync::Arc;

use super::output_field::OutputField;

/// The text of the fields. One field is open at a time, or none; text that comes while none is open
/// is dropped.
#[derive(Debug)]
pub(super) struct FieldText {
    fields: Vec<OutputField>,
    /// The fields that were open before: only the first text of a field counts.
    seen: Vec<bool>,
    open: Option<usize>,
    /// Whitespace at the end of the open field's text: it counts if more text follows.
    space: String,
    /// Whitespace at the beginning of the open field's text counts, or its text has begun.
    keeps_space: bool,
    /// What is to be emitted.
    text: String,
    /// To which field it belongs: the field, and where its text ends.
    spans: Vec<(usize, usize)>,
}

impl FieldText {
    pub(super) fn new(fields: Vec<OutputField>) -> Self {
        Self {
            seen: vec![false; fields.len()],
            fields,
            open: None,
            space: String::new(),
            keeps_space: false,
            text: String::new(),
            spans: Vec::new(),
        }
    }

    /// Opens the field, if there is a wanted text field of that name and it was not open before. Of
    /// a `stripped` text the whitespace at the beginning is dropped.
    pub(super) fn open(&mut self, name: &str, stripped: bool) {
        self.close();
        let index = self.fields.iter().position(|field| *field.name == *name);
        let Some(index) = index.filter(|index| !self.seen[*index]) else {
            return;
        };
        self.seen[index] = true;
        let field = &self.fields[index];
        if field.is_text && field.is_wanted {
            self.open = Some(index);
            self.keeps_space = !stripped;
        }
    }

    /// Ends the text of the open field; whitespace at its end is dropped.
    pub(super) fn close(&mut self) {
        self.end_span();
        self.open = None;
        self.space.clear();
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn push(&mut self, char: char) {
        if self.open.is_none() {
            return;
        }
        if is_space(char) {
            self.space.push(char);
            return;
        }
        if self.keeps_space {
            self.text.push_str(&self.space);
        }
        self.space.clear();
        self.keeps_space = true;
        self.text.push(char);
    }

    pub(super) fn push_str(&mut self, text: &str) {
        text.chars().for_each(|char| self.push(char));
    }

    /// The whitespace at the end of the text, as far as it has come.
    pub(super) fn space(&self) -> &str {
        &self.space
    }

    /// The whitespace at the end of the text belongs to it.
    pub(super) fn keep_space(&mut self) {
        self.text.push_str(&self.space);
        self.space.clear();
        self.keeps_space = true;
    }

    /// The whitespace at the end of the text does not belong to it.
    pub(super) fn drop_space(&mut self) {
        self.space.clear();
    }

    /// Passes what was not emitted yet to `emit`.
    pub(super) fn drain(&mut self, emit: &mut dyn FnMut(&Arc<str>, &str)) {
        self.end_span();
        let mut from = 0;
        for (field, to) in self.spans.drain(..) {
            emit(&self.fields[field].name, &self.text[from..to]);
            from = to;
        }
        self.text.clear();
    }

    fn end_span(&mut self) {
        let from = self.spans.last().map_or(0, |(_, to)| *to);
        if let Some(field) = self.open
            && self.text.len() > from
        {
            self.spans.push((field, self.text.len()));
        }
    }
}

/// Whether Python's `str.strip` strips the char.
pub(super) fn is_space(char: char) -> bool {
    char.is_whitespace() || matches!(char, '\u{1c}'..='\u{1f}')
}
