//! The failures that may come in place of a prediction, in the document.

use std::collections::BTreeMap;

use http::StatusCode;
use utoipa::openapi::{
    Content, Header, Object, ObjectBuilder, Ref, Response, ResponseBuilder, Type,
};

use crate::{call::CallId, error::ErrorKind, inbound::respond::ErrorResponse};

/// The name of the schema of failures.
pub(super) const PROBLEM: &str = "Problem";

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

/// A budget with a window has its own status: some of it will be free again.
fn of_budget_with_window() -> ErrorResponse {
    let response = ErrorResponse::of_kind(ErrorKind::BudgetExceeded);
    let detail = response.detail().to_owned();
    response.with(StatusCode::TOO_MANY_REQUESTS, detail)
}

pub(super) fn by_status() -> BTreeMap<String, Response> {
    let mut details = BTreeMap::<StatusCode, Vec<String>>::new();
    let by_kind = ErrorKind::ALL.map(ErrorResponse::of_kind);
    let by_kind = by_kind.into_iter().chain([of_budget_with_window()]);
    for failure in by_kind.chain(of_requests()) {
        let known = details.entry(failure.status()).or_default();
        let detail = failure.detail().to_owned();
        if !known.contains(&detail) {
            known.push(detail);
        }
    }
    let failure = |(status, details): (StatusCode, Vec<String>)| {
        let response = ResponseBuilder::new()
            .description(details.join("; or "))
            .content(
                "application/problem+json",
                Content::new(Some(Ref::from_schema_name(PROBLEM))),
            );
        let response = response.header(CallId::HEADER.as_str(), call_id());
        let waits = [
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::TOO_MANY_REQUESTS,
        ];
        let response = if waits.contains(&status) {
            let seconds = Object::with_type(Type::Integer);
            response.header("Retry-After", Header::new(seconds))
        } else {
            response
        };
        (status.as_str().to_owned(), response.build())
    };
    details.into_iter().map(failure).collect()
}

/// The header that each response has.
pub(super) fn call_id() -> Header {
    let mut header = Header::new(Object::with_type(Type::Integer));
    header.description = Some("The id of the call, a number of the server's process.".to_owned());
    header
}

pub(super) fn problem() -> ObjectBuilder {
    let string = || ObjectBuilder::new().schema_type(Type::String);
    let kinds = ErrorKind::ALL.map(|kind| serde_json::json!(kind));
    let problem = ObjectBuilder::new()
        .description(Some("A failure, by RFC 9457."))
        .property("title", string())
        .property("status", Object::with_type(Type::Integer))
        .property("detail", string())
        .property("kind", string().enum_values(Some(kinds)))
        .property(
            "call_id",
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(1))
                .description(Some(
                    "The id of the call, a number of the server's process.",
                )),
        )
        .property(
            "field",
            string().description(Some("The input that is wrong, where it is one.")),
        );
    let required = ["title", "status", "detail", "kind"];
    required.into_iter().fold(problem, ObjectBuilder::required)
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
                ErrorKind::BudgetExceeded => 9,
                ErrorKind::Lost => 10,
                ErrorKind::Other => 11,
            };
            assert_eq!(n, place, "{kind:?}");
        }
    }
}
