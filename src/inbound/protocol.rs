//! [`Protocol`]: HTTP or gRPC, as a request wants its answer.

use http::{HeaderMap, header};

/// In which of the two protocols a request came, and wants its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// Plain HTTP.
    Http,
    /// gRPC.
    Grpc,
}

impl Protocol {
    /// gRPC if the `content-type` is `application/grpc`, with or without a suffix such as `+proto`
    /// or a parameter; else HTTP. gRPC-Web counts as HTTP: put its translation outside.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let rest = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
        match rest {
            Some([] | [b'+' | b';' | b' ', ..]) => Self::Grpc,
            _ => Self::Http,
        }
    }
}
