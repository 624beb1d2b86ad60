//! The events of an exchange.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use serde_json::Value;

use crate::lm::{LmFailure, LmFailureKind};

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
    Failed(ExchangeFailure),
    /// The exchange was aborted; for code on a thread.
    #[cfg(feature = "python")]
    Cancelled,
}

/// The failure of an exchange.
#[derive(Debug)]
pub(crate) enum ExchangeFailure {
    Lm(LmFailure),
    Body(String),
    Tool(String),
    /// A layer of the user's, or a key function.
    Panicked,
}

impl ExchangeFailure {
    /// The error's kind, as `patches/lm15.py` and `patches/httpx.py` map it, and its message.
    pub(crate) fn describe(&self) -> (&'static str, String) {
        let failure = match self {
            Self::Lm(failure) => failure,
            Self::Body(message) => return ("protocol", message.clone()),
            Self::Tool(message) => return ("tool", message.clone()),
            Self::Panicked => {
                let message =
                    "the LM call failed: a layer of the LM, or its key function, panicked";
                return ("other", message.into());
            }
        };
        let kind = match failure.kind() {
            LmFailureKind::Connect => "connect",
            LmFailureKind::ConnectTimeout => "connect_timeout",
            LmFailureKind::FirstByteTimeout
            | LmFailureKind::IdleTimeout
            | LmFailureKind::TotalTimeout
            | LmFailureKind::Deadline => "read_timeout",
            LmFailureKind::Read => "read",
            LmFailureKind::Protocol => "protocol",
            _ => "other",
        };
        (kind, failure.to_string())
    }
}

/// The status and the headers of a response.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
}

impl ResponseHead {
    /// The headers as DSPy reads them: text in Latin-1, which keeps each byte.
    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        let text = |value: &HeaderValue| value.as_bytes().iter().copied().map(char::from).collect();
        let headers = self.headers.iter();
        headers
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect()
    }
}

impl Event {
    pub(crate) const fn is_last(&self) -> bool {
        !matches!(self, Self::Head(_) | Self::Chunk(_))
    }
}
