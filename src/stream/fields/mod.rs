//! Parsers of an LM's text into the output fields of a signature, while the text is written.
//!
//! They read what DSPy's adapters read from the whole text: the text of a field that comes in
//! pieces is, added up, the field that the adapter parses, wherever the pieces are cut. Where DSPy
//! reads what is not in the adapter's form, by repairing it, the sum may differ from its value; the
//! caller compares the two.

mod chat;
mod field_text;
mod json;
mod json_string;
mod output_field;
#[cfg(test)]
mod tests;
mod xml;
mod xml_tag;

use std::sync::Arc;

use serde::Deserialize;

pub(crate) use self::output_field::OutputField;

use self::{chat::ChatParser, field_text::FieldText, json::JsonParser, xml::XmlParser};

/// The form in which an adapter lets the LM write the output fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// Sections with headers: `ChatAdapter`.
    Chat,
    /// An object: `JSONAdapter`.
    Json,
    /// An element each: `XMLAdapter`.
    Xml,
    /// No form that is known: all text is the text of a field without a name.
    Raw,
}

/// A parser of one text of an LM.
#[derive(Debug)]
pub(crate) struct FieldParser {
    grammar: Grammar,
    text: FieldText,
}

#[derive(Debug)]
enum Grammar {
    Chat(ChatParser),
    Json(JsonParser),
    Xml(XmlParser),
    Raw(Arc<str>),
}

impl FieldParser {
    pub(crate) fn new(format: Format, fields: Vec<OutputField>) -> Self {
        Self {
            grammar: match format {
                Format::Chat => Grammar::Chat(ChatParser::default()),
                Format::Json => Grammar::Json(JsonParser::default()),
                Format::Xml => Grammar::Xml(XmlParser::default()),
                Format::Raw => Grammar::Raw("".into()),
            },
            text: FieldText::new(fields),
        }
    }

    /// Reads the next piece of the LM's text. Passes the name of each wanted text field and what
    /// the piece adds to it, which is never empty, to `emit`. What may be no part of the field, such
    /// as whitespace at its end or the beginning of a marker, is held back until that is known.
    pub(crate) fn push(&mut self, piece: &str, emit: &mut dyn FnMut(&Arc<str>, &str)) {
        let text = &mut self.text;
        match &mut self.grammar {
            Grammar::Chat(chat) => piece.chars().for_each(|char| chat.read(char, text)),
            Grammar::Json(json) => piece.chars().for_each(|char| json.read(char, text)),
            Grammar::Xml(xml) => piece.chars().for_each(|char| xml.read(char, text)),
            Grammar::Raw(name) if !piece.is_empty() => emit(name, piece),
            Grammar::Raw(_) => {}
        }
        text.drain(emit);
    }

    /// The LM's text has ended: passes what was held back and belongs to a field to `emit`.
    pub(crate) fn finish(&mut self, emit: &mut dyn FnMut(&Arc<str>, &str)) {
        match &mut self.grammar {
            Grammar::Chat(chat) => chat.finish(&mut self.text),
            Grammar::Json(json) => json.finish(&mut self.text),
            // DSPy refuses a text that ends within an element.
            Grammar::Xml(_) | Grammar::Raw(_) => {}
        }
        self.text.drain(emit);
    }
}
