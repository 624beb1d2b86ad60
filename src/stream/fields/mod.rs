//! Stub.
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    Chat,
    Json,
    Xml,
    Raw,
}

#[derive(Clone, Debug)]
pub(crate) struct OutputField {
    pub(crate) name: Arc<str>,
    pub(crate) is_text: bool,
    pub(crate) is_wanted: bool,
}

#[derive(Debug)]
pub(crate) struct FieldParser {
    name: Arc<str>,
}

impl FieldParser {
    pub(crate) fn new(_: Format, _: Vec<OutputField>) -> Self {
        Self { name: "".into() }
    }
    pub(crate) fn push(&mut self, text: &str, emit: &mut dyn FnMut(&Arc<str>, &str)) {
        emit(&self.name, text);
    }
    pub(crate) fn finish(&mut self, _: &mut dyn FnMut(&Arc<str>, &str)) {}
}
