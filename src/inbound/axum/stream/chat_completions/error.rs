//! [`OpenAiError`]: a failure in the form of OpenAI's API.

use ::axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

use super::super::failure::StreamFailure;
use crate::{
    call::CallId,
    error::{ErrorKind, cut},
    inbound::respond::ErrorResponse,
};

/// Asks clients of OpenAI not to try again by themselves.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

#[derive(Debug)]
pub(super) struct OpenAiError {
    response: Box<ErrorResponse>,
    /// In place of the kind of the failure.
    code: Option<&'static str>,
    param: Option<&'static str>,
    restarted: bool,
}

impl OpenAiError {
    pub(super) fn of(response: impl Into<Box<ErrorResponse>>) -> Self {
        Self {
            response: response.into(),
            code: None,
            param: None,
            restarted: false,
        }
    }

    pub(super) fn failed(failure: StreamFailure) -> Self {
        Self {
            restarted: failure.restarted,
            ..Self::of(failure.response)
        }
    }

    /// A request that is wrong in `param`.
    pub(super) fn invalid(param: &'static str, wrong: impl Into<Box<str>>) -> Self {
        Self {
            param: Some(param),
            ..Self::of(ErrorResponse::refused(StatusCode::BAD_REQUEST, wrong))
        }
    }

    pub(super) fn no_model(asked: &str) -> Self {
        let detail = format!("the model `{}` does not exist", cut(asked));
        Self {
            code: Some("model_not_found"),
            param: Some("model"),
            ..Self::of(ErrorResponse::refused(StatusCode::NOT_FOUND, detail))
        }
    }

    /// The same, of the call with this id.
    pub(super) fn of_call(mut self, id: CallId) -> Self {
        self.response = Box::new(self.response.with_call_id(id));
        self
    }

    pub(super) fn body(&self) -> ErrorBody<'_> {
        let response = &self.response;
        let kind = if self.restarted {
            "stream_restarted"
        } else if response.kind() == ErrorKind::BudgetExceeded {
            "insufficient_quota"
        } else if response.status().is_client_error() {
            "invalid_request_error"
        } else {
            "server_error"
        };
        ErrorBody {
            error: ErrorObject {
                message: response.detail(),
                kind,
                param: self.param.or_else(|| response.field()),
                code: match self.code {
                    Some(code) => ErrorCode::Named(code),
                    None => ErrorCode::Kind(response.kind()),
                },
                call_id: response.call_id(),
            },
        }
    }
}

impl IntoResponse for OpenAiError {
    fn into_response(self) -> Response {
        let status = self.response.status();
        let mut response = (status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        self.response.write_call_id(headers);
        if let Some(wait) = self.response.retry_after_secs() {
            headers.insert(header::RETRY_AFTER, wait.into());
        }
        // By the table another try is no help.
        if matches!(
            status,
            StatusCode::INTERNAL_SERVER_ERROR | StatusCode::BAD_GATEWAY
        ) {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }
}

#[derive(Serialize)]
pub(super) struct ErrorBody<'a> {
    error: ErrorObject<'a>,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'a str>,
    code: ErrorCode,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<CallId>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ErrorCode {
    Named(&'static str),
    Kind(ErrorKind),
}
