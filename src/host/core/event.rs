//! The events of an exchange.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use serde_json::Value;

use crate::{
    error::ErrorKind,
    lm::{LmFailure, LmFailureKind},
};

/// An event of an exchange, for Python.
#[derive(Debug)]
pub(crate) enum Event {
    /// The whole answer.
    Full(ResponseHead, Bytes),
    /// The start of an answer that comes in pieces.
    Head(ResponseHead),
    Chunk(Bytes),
    End,
    /// The answer of a tool.
    Value(Value),
    /// The failure's kind, as `patches/lm15.py` and `patches/httpx.py` map it, and its message.
    Failed(&'static str, String),
}

impl Event {
    pub(crate) const fn is_last(&self) -> bool {
        !matches!(self, Self::Head(_) | Self::Chunk(_))
    }
}

impl From<LmFailure> for Event {
    fn from(failure: LmFailure) -> Self {
        let kind = match failure.kind() {
            LmFailureKind::Connect => "connect",
            LmFailureKind::ConnectTimeout => "connect_timeout",
            LmFailureKind::FirstByteTimeout
            | LmFailureKind::FirstContentTimeout
            | LmFailureKind::IdleTimeout
            | LmFailureKind::TotalTimeout => "read_timeout",
            LmFailureKind::Deadline => "deadline",
            LmFailureKind::Refused if failure.sort == ErrorKind::BudgetExceeded => "over_budget",
            LmFailureKind::Refused if failure.sort == ErrorKind::Overloaded => "overloaded",
            LmFailureKind::Read => "read",
            LmFailureKind::Protocol => "protocol",
            _ => "other",
        };
        Self::Failed(kind, failure.to_string())
    }
}

/// The status and the headers of a response, which DSPy reads as text in Latin-1: that keeps each
/// byte.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
}

impl ResponseHead {
    pub(super) fn new(status: u16, headers: &HeaderMap) -> Self {
        let text = |value: &HeaderValue| value.as_bytes().iter().copied().map(char::from).collect();
        let headers = headers.iter();
        Self {
            status,
            headers: headers
                .map(|(name, value)| (name.as_str().to_owned(), text(value)))
                .collect(),
        }
    }
}
