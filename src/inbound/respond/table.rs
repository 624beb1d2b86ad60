//! The rows of the table of outward statuses, each with its reason.

use crate::error::ErrorKind;

/// A gRPC status code, of those that the table uses.
///
/// With the feature `tonic` it turns into a `tonic::Code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum GrpcCode {
    /// The call was cancelled.
    Cancelled = 1,
    /// The code that gRPC's own servers give when an application raises.
    Unknown = 2,
    /// The request is wrong, and stays wrong.
    InvalidArgument = 3,
    /// The time ran out.
    DeadlineExceeded = 4,
    /// There is nothing of that name.
    NotFound = 5,
    /// There is no room for the call.
    ResourceExhausted = 8,
    /// Something inside is broken.
    Internal = 13,
    /// The service cannot answer now; another try may help.
    Unavailable = 14,
}

#[cfg(feature = "tonic")]
impl From<GrpcCode> for tonic::Code {
    fn from(code: GrpcCode) -> Self {
        Self::from_i32(code as i32)
    }
}

/// One row of the table.
pub(super) struct Row {
    pub(super) status: u16,
    pub(super) code: GrpcCode,
    /// The message for the client; never one of the program, the LM or an unknown error, which may
    /// repeat a prompt.
    pub(super) detail: &'static str,
}

/// The row of a kind. A kind without one does not compile.
pub(super) const fn row(kind: ErrorKind) -> Row {
    match kind {
        // 408 would say that the client was slow to send its request, and lets it repeat any. 504
        // is what a gateway says whose upstream was too slow, which a program and its LM are.
        ErrorKind::Elapsed => Row {
            status: 504,
            code: GrpcCode::DeadlineExceeded,
            detail: "the work took longer than its limit, and was stopped",
        },
        // tonic answers CANCELLED here, and UNKNOWN for tower's own error; the specification asks
        // for DEADLINE_EXCEEDED.
        ErrorKind::Deadline => Row {
            status: 504,
            code: GrpcCode::DeadlineExceeded,
            detail: "the request's deadline passed, and the work was stopped",
        },
        // Not registered, but what nginx made the log's word for it. Mostly nobody is left to
        // read it.
        ErrorKind::Cancelled => Row {
            status: 499,
            code: GrpcCode::Cancelled,
            detail: "the call was cancelled, and the work was stopped",
        },
        // Nothing was begun, so gRPC clients may try at once, elsewhere.
        ErrorKind::ShuttingDown => Row {
            status: 503,
            code: GrpcCode::Unavailable,
            detail: "this server is shutting down; try another",
        },
        // 429 would say that this client asks too often, which nobody has counted. For gRPC,
        // UNAVAILABLE would have clients try again at once, which is no help against overload.
        ErrorKind::Overloaded => Row {
            status: 503,
            code: GrpcCode::ResourceExhausted,
            detail: "there are too many calls; try again later",
        },
        // The syntax was understood, or there would be no inputs; 400 is for what was not.
        ErrorKind::InvalidInput => Row {
            status: 422,
            code: GrpcCode::InvalidArgument,
            detail: "the inputs do not fit the program",
        },
        // UNKNOWN is the code of gRPC's own servers for an application that raises.
        ErrorKind::Program => Row {
            status: 500,
            code: GrpcCode::Unknown,
            detail: "the program failed",
        },
        // 502 would fit as well, but only 503 means "for now" and takes a Retry-After. A proxy that
        // ejects servers by their statuses makes no difference between the two (for Envoy's outlier
        // detection 502, 503 and 504 are all gateway failures), so what shows that this server is
        // well is its readiness, not this row.
        ErrorKind::LmUnavailable => Row {
            status: 503,
            code: GrpcCode::Unavailable,
            detail: "the language model cannot be reached or has no capacity; try again later",
        },
        // As for a wrong key: this server's fault, not the client's, and no better at the next try.
        ErrorKind::LmRejected => Row {
            status: 502,
            code: GrpcCode::Internal,
            detail: "the language model refused this server's request",
        },
        // 402 as for a bill that nobody pays: the same request is refused again. With a window it is
        // 429, with the time until some of the budget is free.
        ErrorKind::BudgetExceeded => Row {
            status: 402,
            code: GrpcCode::ResourceExhausted,
            detail: "the budget for language models is used up",
        },
        // Another server, or this one when it has been started again.
        ErrorKind::Lost => Row {
            status: 503,
            code: GrpcCode::Unavailable,
            detail: "what ran the call is gone; try again",
        },
        ErrorKind::Other => Row {
            status: 500,
            code: GrpcCode::Unknown,
            detail: "the server failed",
        },
    }
}
