//! An output field of a signature, as the parsers know it.

use std::sync::Arc;

use serde::Deserialize;

/// An output field of the signature; in JSON `[name, is_text, is_wanted]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "(String, bool, bool)")]
pub(crate) struct OutputField {
    pub(crate) name: Arc<str>,
    /// Its type is a string: the text of the LM is its value.
    pub(crate) is_text: bool,
    /// The reader of the stream asked for it.
    pub(crate) is_wanted: bool,
}

impl From<(String, bool, bool)> for OutputField {
    fn from((name, is_text, is_wanted): (String, bool, bool)) -> Self {
        Self {
            name: name.into(),
            is_text,
            is_wanted,
        }
    }
}
