//! The one table of outward statuses: which failure is which HTTP status and which gRPC code.
//!
//! | [`ErrorKind`] | HTTP | gRPC |
//! |---|---|---|
//! | `Elapsed`, `Deadline` | 504 Gateway Timeout; 408 Request Timeout if it passed before the request's body had come | `DEADLINE_EXCEEDED` |
//! | `Cancelled` | 499 Client Closed Request | `CANCELLED` |
//! | `ShuttingDown` | 503 Service Unavailable | `UNAVAILABLE` |
//! | `Overloaded` | 503 Service Unavailable | `RESOURCE_EXHAUSTED` |
//! | `InvalidInput` | 422 Unprocessable Content; 400 Bad Request for a timeout that cannot be read; 404 Not Found for a program that is not there, `NOT_FOUND` | `INVALID_ARGUMENT` |
//! | `Program` | 500 Internal Server Error | `UNKNOWN` |
//! | `LmUnavailable` | 503 Service Unavailable | `UNAVAILABLE` |
//! | `LmRejected` | 502 Bad Gateway | `INTERNAL` |
//! | `BudgetExceeded` | 402 Payment Required; 429 Too Many Requests for a budget with a window | `RESOURCE_EXHAUSTED` |
//! | `Lost` | 503 Service Unavailable | `UNAVAILABLE` |
//! | `Other` | 500 Internal Server Error | `UNKNOWN` |
//!
//! The status says whether another try may help, for clients that know nothing else: 503 and
//! `UNAVAILABLE` say so, with `Retry-After` where the failure named a time, as 429 always has it; 402,
//! 500 and 502 do not.

mod table;

use std::{error::Error as StdError, time::Duration};

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use tower::BoxError;

pub use self::table::GrpcCode;
use self::table::row;
use super::protocol::Protocol;
use crate::{
    call::{CallId, deadline::InvalidTimeout},
    error::{Classify, ErrorKind, InvalidInput, sources},
};

/// The media type of [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457).
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A failure as its client is to see it: by the [table](self).
///
/// ```
/// use http::StatusCode;
/// use tower_dspy::{Cancelled, Cause, Error, inbound::respond::{ErrorResponse, GrpcCode}};
///
/// let error = Error::from(Cancelled::new(Cause::Shutdown));
/// let response = ErrorResponse::of(error);
/// assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
/// assert_eq!(response.grpc_code(), GrpcCode::Unavailable);
/// ```
///
/// A message of the program, the LM or an unknown error is not sent: it may repeat a prompt. Log the
/// error before you turn it into a response. The client learns only what is wrong with its own
/// request, by [`InvalidInput`] and [`InvalidTimeout`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorResponse {
    pub(super) kind: ErrorKind,
    status: StatusCode,
    pub(super) code: GrpcCode,
    pub(super) detail: Box<str>,
    pub(super) field: Option<Box<str>>,
    pub(super) retry_after: Option<Duration>,
    call_id: Option<CallId>,
    /// What else gRPC's details say.
    #[cfg(feature = "tonic")]
    pub(super) facts: crate::proto::Facts,
}

impl ErrorResponse {
    /// The response that `error` calls for.
    #[must_use]
    pub fn of<E: Classify + Into<BoxError>>(error: E) -> Self {
        Self::classified(&error).described(&*error.into())
    }

    pub(super) fn classified(error: &impl Classify) -> Self {
        let response = Self::of_kind(error.kind());
        let retry_after = error.retry_after();
        let status = match response.kind {
            ErrorKind::BudgetExceeded if retry_after.is_some() => StatusCode::TOO_MANY_REQUESTS,
            _ => response.status,
        };
        Self {
            retry_after,
            status,
            ..response
        }
    }

    /// The response for a failure of which only the sort is known.
    #[must_use]
    pub fn of_kind(kind: ErrorKind) -> Self {
        let row = row(kind);
        Self {
            kind,
            status: StatusCode::from_u16(row.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            code: row.code,
            detail: row.detail.into(),
            field: None,
            retry_after: None,
            call_id: None,
            #[cfg(feature = "tonic")]
            facts: crate::proto::Facts::default(),
        }
    }

    /// The same with another status and detail.
    pub(super) fn with(self, status: StatusCode, detail: impl Into<Box<str>>) -> Self {
        Self {
            status,
            detail: detail.into(),
            ..self
        }
    }

    /// There is no program of the name `asked`.
    #[cfg(feature = "tonic")]
    pub(super) fn no_program(asked: &str, known: &[&str]) -> Self {
        let known = known.join(", ");
        let detail = format!("there is no program `{asked}`; there are: {known}");
        Self {
            code: GrpcCode::NotFound,
            field: Some("program".into()),
            ..Self::of_kind(ErrorKind::InvalidInput).with(StatusCode::NOT_FOUND, detail)
        }
    }

    /// A request that was refused with `status` before there were inputs, because of `detail`.
    #[cfg(feature = "axum")]
    pub(super) fn refused(status: StatusCode, detail: impl Into<Box<str>>) -> Self {
        Self::of_kind(ErrorKind::InvalidInput).with(status, detail)
    }

    /// A request whose body had not come by its deadline: nothing was begun.
    #[cfg(feature = "axum")]
    pub(super) fn slow_body() -> Self {
        let detail = "the deadline passed before the request's body had come";
        Self::of_kind(ErrorKind::Deadline).with(StatusCode::REQUEST_TIMEOUT, detail)
    }

    /// The same, as the response of the call with this id; an id that the error had stays.
    #[must_use]
    pub fn with_call_id(mut self, id: CallId) -> Self {
        self.call_id.get_or_insert(id);
        #[cfg(feature = "tonic")]
        if let Some(id) = self.call_id {
            self.facts.of_call(id);
        }
        self
    }

    /// The same with what the first among `error` and its sources says about the request itself, the id
    /// of its call, and the facts of every failure.
    pub(super) fn described(mut self, error: &(dyn StdError + 'static)) -> Self {
        #[cfg(feature = "tonic")]
        {
            self.facts = crate::proto::Facts::of(error);
        }
        self.call_id = CallId::of(error);
        for error in sources(error) {
            if let Some(input) = error.downcast_ref::<InvalidInput>() {
                self.detail = input.to_string().into();
                self.field = input.field().map(Into::into);
                break;
            }
            if let Some(timeout) = error.downcast_ref::<InvalidTimeout>() {
                // A time left that cannot be read is a request that was not understood.
                return self.with(StatusCode::BAD_REQUEST, timeout.to_string());
            }
        }
        self
    }

    /// The status in words, as RFC 9457 wants its `title`.
    fn title(&self) -> &'static str {
        match self.status.as_u16() {
            422 => "Unprocessable Content",
            499 => "Client Closed Request",
            _ => self.status.canonical_reason().unwrap_or("Bad Request"),
        }
    }

    /// The sort of the failure.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The gRPC code.
    #[must_use]
    pub const fn grpc_code(&self) -> GrpcCode {
        self.code
    }

    /// The message for the client.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// After what time another try makes sense, if the failure said.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The id of the call; of [`Error::call_id`](crate::Error::call_id), or as
    /// [given](Self::with_call_id).
    #[must_use]
    pub const fn call_id(&self) -> Option<CallId> {
        self.call_id
    }

    /// The body for plain HTTP.
    pub(super) fn problem(&self) -> Problem<'_> {
        Problem {
            title: self.title(),
            status: self.status.as_u16(),
            detail: &self.detail,
            kind: self.kind,
            field: self.field.as_deref(),
            call_id: self.call_id,
        }
    }

    /// For plain HTTP: the status, `Retry-After` in whole seconds, rounded up,
    /// [`x-call-id`](CallId::HEADER), and a body of `application/problem+json`
    /// ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)) with the members `title`, `status`, `detail`
    /// and `kind`, `field` where one input is wrong, and `call_id` where it is known.
    #[must_use]
    pub fn into_http(self) -> Response<String> {
        // Strings and a number: there is nothing in it that cannot be written.
        let body = serde_json::to_string(&self.problem()).unwrap_or_default();
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        if let Some(secs) = self.retry_after_secs() {
            headers.insert(header::RETRY_AFTER, secs.into());
        }
        self.write_call_id(headers);
        response
    }

    /// Puts the id of the call into the head of a response.
    pub(super) fn write_call_id(&self, headers: &mut HeaderMap) {
        if let Some(id) = self.call_id {
            headers.insert(CallId::HEADER, id.header_value());
        }
    }

    /// The value of `Retry-After`.
    pub(super) fn retry_after_secs(&self) -> Option<u64> {
        let secs = |wait: Duration| {
            wait.as_secs()
                .saturating_add(u64::from(wait.subsec_nanos() > 0))
        };
        self.retry_after.map(secs)
    }

    /// The input that is wrong.
    #[cfg(feature = "axum")]
    pub(super) fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// In the form of the protocol `to`.
    #[must_use]
    pub fn into_protocol(self, to: Protocol) -> Response<String> {
        match to {
            Protocol::Http => self.into_http(),
            Protocol::Grpc => self.into_grpc(),
        }
    }
}

/// The members of `application/problem+json`.
#[derive(Serialize)]
pub(super) struct Problem<'a> {
    title: &'a str,
    status: u16,
    detail: &'a str,
    kind: ErrorKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<CallId>,
}
