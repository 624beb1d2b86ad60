//! The gRPC form of an [`ErrorResponse`].

use http::{HeaderName, HeaderValue, Response, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::respond::ErrorResponse;
use crate::error::cut;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What gRPC wants encoded in a message: all but printable ASCII, and the percent sign.
const IN_MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

impl ErrorResponse {
    /// For gRPC: 200, `grpc-status`, `grpc-message` and [`x-call-id`](crate::CallId::HEADER) in the
    /// head, and no body ("trailers only").
    ///
    /// With the feature `tonic` there are details in `grpc-status-details-bin`: an
    /// `google.rpc.ErrorInfo` of the domain `tower-dspy`, whose reason is the [kind](Self::kind) in
    /// upper case, with the id of the call as `call_id`; `RetryInfo` with a known [`retry_after`](Self::retry_after); and `BadRequest` with
    /// the field that is wrong. `grpc-retry-pushback-ms` is not set: it makes clients with a retry
    /// policy try again also after codes that the policy leaves out.
    #[must_use]
    pub fn into_grpc(self) -> Response<String> {
        let mut response = Response::new(String::new());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, GRPC);
        headers.insert(GRPC_STATUS, HeaderValue::from(self.code as u16));
        let message = utf8_percent_encode(&cut(&self.detail), IN_MESSAGE).to_string();
        if let Ok(message) = HeaderValue::try_from(message) {
            headers.insert(GRPC_MESSAGE, message);
        }
        self.write_call_id(headers);
        #[cfg(feature = "tonic")]
        tonic::add_details(self, headers);
        response
    }
}

#[cfg(feature = "tonic")]
mod tonic {
    use std::sync::Arc;

    use ::tonic::{
        Status,
        metadata::{Binary, MetadataValue},
    };
    use http::{HeaderMap, HeaderName, HeaderValue};

    use crate::{error::Error, inbound::respond::ErrorResponse, proto};

    const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

    pub(super) fn add_details(response: ErrorResponse, headers: &mut HeaderMap) {
        let status = Status::from(response);
        let details = MetadataValue::<Binary>::from_bytes(status.details());
        if let Ok(details) = HeaderValue::from_bytes(details.as_encoded_bytes()) {
            headers.insert(DETAILS, details);
        }
    }

    /// With the details of [`into_grpc`](ErrorResponse::into_grpc), and the id of the call in its
    /// metadata.
    impl From<ErrorResponse> for Status {
        fn from(response: ErrorResponse) -> Self {
            let id = response.call_id();
            let mut status = proto::status(
                response.code.into(),
                response.kind,
                &response.detail,
                response.field.as_deref(),
                response.retry_after,
                response.facts,
            );
            if let Some(id) = id {
                proto::write_call_id(id, status.metadata_mut());
            }
            status
        }
    }

    /// By the [table](crate::inbound::respond). The error stays the status's source, for layers in
    /// this process; it is not sent.
    impl From<Error> for Status {
        fn from(error: Error) -> Self {
            let mut status = Self::from(ErrorResponse::classified(&error).described(&error));
            status.set_source(Arc::new(error));
            status
        }
    }
}
