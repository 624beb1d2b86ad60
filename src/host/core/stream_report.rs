//! What a program reports of the answer that it writes. Python's side is `call_stream.py`.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::stream::fields::Format;

/// A report of a streaming call, but for the texts of its LM calls.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StreamReport {
    /// An LM call begins that is streamed.
    Begin {
        lm_call: u64,
        predictor: Arc<str>,
        format: Format,
        /// The output fields of the adapter in their order: the name, whether it is a text, and
        /// whether the reader wants it.
        fields: Vec<(Arc<str>, bool, bool)>,
    },
    /// The text fields of an LM call as DSPy parsed them.
    Values {
        lm_call: u64,
        values: Map<String, Value>,
    },
    /// The text of an LM call does not hold.
    Restart {
        lm_call: u64,
    },
    /// An LM call that is not streamed has written these text fields.
    Unstreamed {
        fields: Vec<Arc<str>>,
    },
    Status {
        message: String,
    },
    ToolCall {
        id: u64,
        name: Arc<str>,
        arguments: Value,
    },
    /// With a value or an error.
    ToolResult {
        id: u64,
        name: Arc<str>,
        #[serde(default)]
        value: Value,
        #[serde(default)]
        error: Option<String>,
    },
}
