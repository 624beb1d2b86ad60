//! A sentence of the story of a call.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::format::offset;

/// One sentence of the story of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StoryLine {
    /// When it happened, counted from the arrival of the call; in JSON as seconds.
    #[serde(serialize_with = "crate::call::record::seconds::seconds")]
    pub at: Duration,
    /// What happened.
    pub text: String,
}

impl StoryLine {
    pub(super) fn new(at: Duration, text: impl Into<String>) -> Self {
        Self {
            at,
            text: text.into(),
        }
    }

    /// When it happened, as `+3.912 s`.
    pub(crate) fn offset(&self) -> String {
        offset(self.at)
    }
}

/// `+3.912 s LM call 2 (openai/gpt-4o) was sent`.
impl fmt::Display for StoryLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.offset(), self.text)
    }
}
