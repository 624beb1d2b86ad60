//! One LM call that is streamed: the parser of its text, and the texts of its fields so far.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::stream::{
    StreamEvent,
    fields::{FieldParser, Format, OutputField},
};

/// A streamed LM call.
#[derive(Debug)]
pub(super) struct StreamedLmCall {
    number: u64,
    predictor: Arc<str>,
    /// `None` once the text has ended.
    parser: Option<FieldParser>,
    /// Of the wanted text fields, in the order of the fields; of a raw answer one without a name.
    texts: Vec<(Arc<str>, String)>,
    /// Something of it was sent.
    is_visible: bool,
    /// Its text was not taken back.
    holds: bool,
}

impl StreamedLmCall {
    pub(super) fn new(
        number: u64,
        predictor: Arc<str>,
        format: Format,
        fields: Vec<(Arc<str>, bool, bool)>,
    ) -> Self {
        let fields: Vec<_> = fields
            .into_iter()
            .map(|(name, is_text, is_wanted)| OutputField {
                name,
                is_text,
                is_wanted,
            })
            .collect();
        let wanted = fields
            .iter()
            .filter(|field| field.is_text && field.is_wanted);
        let mut texts: Vec<_> = wanted
            .map(|field| (field.name.clone(), String::new()))
            .collect();
        if format == Format::Raw {
            texts = vec![(Arc::from(""), String::new())];
        }
        Self {
            number,
            predictor,
            parser: Some(FieldParser::new(format, fields)),
            texts,
            is_visible: false,
            holds: true,
        }
    }

    pub(super) const fn holds(&self) -> bool {
        self.holds
    }

    pub(super) fn is_of(&self, predictor: &str) -> bool {
        *self.predictor == *predictor
    }

    /// More text of the LM.
    pub(super) fn push(&mut self, text: &str, send: &mut impl FnMut(StreamEvent)) {
        self.parse(send, |parser, emit| parser.push(text, emit));
    }

    pub(super) fn think(&mut self, delta: String, send: &mut impl FnMut(StreamEvent)) {
        self.is_visible = true;
        send(StreamEvent::Thinking {
            lm_call: self.number,
            predictor: self.predictor.clone(),
            delta,
        });
    }

    /// The text has ended, and DSPy has parsed it: sends what was held back, and replaces each field
    /// whose text differs.
    pub(super) fn finish(
        &mut self,
        values: &Map<String, Value>,
        send: &mut impl FnMut(StreamEvent),
    ) {
        self.parse(send, |parser, emit| parser.finish(emit));
        self.parser = None;
        for n in 0..self.texts.len() {
            let (field, text) = &self.texts[n];
            if let Some(Value::String(value)) = values.get(&**field)
                && value != text
            {
                self.replace(n, value.clone(), send);
            }
        }
    }

    /// Replaces the text of its `n`th field.
    fn replace(&mut self, n: usize, value: String, send: &mut impl FnMut(StreamEvent)) {
        let (field, text) = &mut self.texts[n];
        text.clone_from(&value);
        self.is_visible = true;
        send(StreamEvent::Replace {
            lm_call: self.number,
            predictor: self.predictor.clone(),
            field: field.clone(),
            text: value,
        });
    }

    /// Replaces the text of a field that the program answers differently.
    pub(super) fn correct(&mut self, field: &str, value: &str, send: &mut impl FnMut(StreamEvent)) {
        let position = self.texts.iter().position(|(name, _)| **name == *field);
        if let Some(n) = position.filter(|n| self.texts[*n].1 != value) {
            self.replace(n, value.to_owned(), send);
        }
    }

    /// The text does not hold. It is kept for the partial answer.
    pub(super) fn restart(&mut self, send: &mut impl FnMut(StreamEvent)) {
        self.holds = false;
        if self.is_visible {
            send(StreamEvent::Restart {
                lm_call: self.number,
                predictor: self.predictor.clone(),
            });
        }
    }

    /// Forgets the texts of fields that a later LM call wrote too, once this LM call has ended. Returns
    /// whether it has ended and no text of it is left.
    pub(super) fn forget(&mut self, written: &[Arc<str>]) -> bool {
        let has_ended = self.parser.is_none();
        if has_ended {
            self.texts.retain(|(field, _)| !written.contains(field));
        }
        has_ended && self.texts.is_empty()
    }

    /// The names of the fields that have text.
    pub(super) fn written(&self) -> Vec<Arc<str>> {
        let written = self.texts.iter().filter(|(_, text)| !text.is_empty());
        written.map(|(field, _)| field.clone()).collect()
    }

    /// The texts of the fields, without those that are empty.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        let texts = self.texts.iter();
        let texts = texts.map(|(field, text)| (&**field, &**text));
        texts.filter(|(field, text)| !field.is_empty() && !text.is_empty())
    }

    fn parse(
        &mut self,
        send: &mut impl FnMut(StreamEvent),
        parse: impl FnOnce(&mut FieldParser, &mut dyn FnMut(&Arc<str>, &str)),
    ) {
        let Self {
            number,
            predictor,
            parser: Some(parser),
            texts,
            is_visible,
            ..
        } = self
        else {
            return;
        };
        parse(parser, &mut |field, delta| {
            if let Some((_, text)) = texts.iter_mut().find(|(name, _)| name == field) {
                text.push_str(delta);
            }
            *is_visible = true;
            send(StreamEvent::Text {
                lm_call: *number,
                predictor: predictor.clone(),
                field: field.clone(),
                delta: delta.to_owned(),
            });
        });
    }
}
