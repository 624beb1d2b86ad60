//! The failure of a stream: its response, and what is known beside it.

use http::StatusCode;
use serde_json::{Map, Value};
use tower::BoxError;

use crate::{
    call::{CallId, Spent},
    error::{Classify, ErrorKind},
    inbound::respond::ErrorResponse,
};

/// Why a stream has no whole answer.
#[derive(Debug)]
pub(super) struct StreamFailure {
    pub(super) response: Box<ErrorResponse>,
    /// The texts that had come.
    pub(super) partial: Option<Map<String, Value>>,
    /// The text that was sent does not hold, and cannot be taken back.
    pub(super) restarted: bool,
}

impl<E: Classify + Into<BoxError>> From<E> for StreamFailure {
    fn from(error: E) -> Self {
        let response = ErrorResponse::classified(&error);
        let error = error.into();
        Self {
            response: Box::new(response.described(&*error)),
            partial: Spent::of(&*error).and_then(|spent| spent.partial.clone()),
            restarted: false,
        }
    }
}

impl StreamFailure {
    /// The same, of the call with this id.
    pub(super) fn of_call(mut self, id: CallId) -> Self {
        self.response = Box::new(self.response.with_call_id(id));
        self
    }

    /// Text that was sent does not hold.
    pub(super) fn restarted() -> Self {
        let response = ErrorResponse::of_kind(ErrorKind::Program);
        let detail = "the program wrote its answer anew, and the text so far does not hold";
        Self {
            response: Box::new(response.with(StatusCode::INTERNAL_SERVER_ERROR, detail)),
            partial: None,
            restarted: true,
        }
    }

    /// The prediction lacks the field that the client is to get.
    pub(super) fn no_output(field: &str) -> Self {
        let response = ErrorResponse::of_kind(ErrorKind::Other);
        let detail = format!("the program's prediction has no output `{field}`");
        Self {
            response: Box::new(response.with(StatusCode::INTERNAL_SERVER_ERROR, detail)),
            partial: None,
            restarted: false,
        }
    }

    /// A limit or a cancellation ended the call, in a word; `None` for a failure of the work.
    pub(super) const fn abort_reason(&self) -> Option<&'static str> {
        match self.response.kind() {
            ErrorKind::Deadline => Some("deadline"),
            ErrorKind::Elapsed => Some("elapsed"),
            ErrorKind::Cancelled => Some("cancelled"),
            ErrorKind::ShuttingDown => Some("shutting_down"),
            _ => None,
        }
    }
}
