//! The failures that may come in place of a prediction, in the document.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::{error::ErrorKind, inbound::respond::ErrorResponse};

/// What `predict` answers to requests that are wrong before there are inputs.
fn of_requests() -> [ErrorResponse; 4] {
    let refused = |status, detail: &str| ErrorResponse::refused(status, detail);
    [
        refused(
            StatusCode::BAD_REQUEST,
            "the body is no JSON, or the timeout cannot be read",
        ),
        refused(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
        refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body is not said to be JSON",
        ),
        ErrorResponse::slow_body(),
    ]
}

pub(super) fn by_status() -> Map<String, Value> {
    let mut details = BTreeMap::<StatusCode, Vec<String>>::new();
    let by_kind = ErrorKind::ALL.map(ErrorResponse::of_kind);
    for failure in by_kind.into_iter().chain(of_requests()) {
        let known = details.entry(failure.status()).or_default();
        let detail = failure.detail().to_owned();
        if !known.contains(&detail) {
            known.push(detail);
        }
    }
    let failure = |(status, details): (StatusCode, Vec<String>)| {
        let schema = json!({"$ref": "#/components/schemas/Problem"});
        let mut response = json!({
            "description": details.join("; or "),
            "content": {"application/problem+json": {"schema": schema}},
        });
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response["headers"] = json!({"Retry-After": {"schema": {"type": "integer"}}});
        }
        (status.as_str().to_owned(), response)
    };
    details.into_iter().map(failure).collect()
}

pub(super) fn problem() -> Value {
    json!({
        "type": "object",
        "description": "A failure, by RFC 9457.",
        "properties": {
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "kind": {"type": "string", "enum": ErrorKind::ALL},
            "field": {
                "type": "string",
                "description": "The input that is wrong, where it is one.",
            },
        },
        "required": ["title", "status", "detail", "kind"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_kind_is_documented() {
        for (n, kind) in ErrorKind::ALL.into_iter().enumerate() {
            // A kind more does not compile here until it has its place.
            let place = match kind {
                ErrorKind::Elapsed => 0,
                ErrorKind::Deadline => 1,
                ErrorKind::Cancelled => 2,
                ErrorKind::ShuttingDown => 3,
                ErrorKind::Overloaded => 4,
                ErrorKind::InvalidInput => 5,
                ErrorKind::Program => 6,
                ErrorKind::LmUnavailable => 7,
                ErrorKind::LmRejected => 8,
                ErrorKind::Lost => 9,
                ErrorKind::Other => 10,
            };
            assert_eq!(n, place, "{kind:?}");
        }
    }
}
