//! The error of a call to another server, read from its status.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use ::tonic::{Code, ConnectError, Status, TimeoutExpired};
use tokio::time::Instant;
use tower::BoxError;

use crate::{
    call::{Cause, Deadline},
    error::{
        BudgetExceeded, Cancelled, Elapsed, Error, ErrorKind, InvalidInput, LmError, Lost,
        Overloaded, ProgramError, Scope, Stage, bare, sources,
    },
    proto::{self, StatusDetails, StructError},
};

/// How tonic begins the message of a status for an answer that ended without a status.
const CUT: &str = "protocol error: missing grpc-status";

/// A call that was sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) program: Arc<str>,
    /// What was sent.
    pub(super) deadline: Option<Deadline>,
    /// Its name.
    pub(super) scope: Scope,
    pub(super) reserve: Duration,
    pub(super) began: Instant,
}

impl Sent {
    /// The error of a call that was answered by `status`.
    pub(super) fn error(&self, status: Status) -> Error {
        if let Some(source) = status.source() {
            return self.broken(source);
        }
        match StatusDetails::of(&status) {
            Some(details) => {
                let error = self.by_details(&details, &status);
                let mut error = error.with_spent(details.spent());
                error.set_ids(None, details.call_id());
                error
            }
            None => self.by_code(&status),
        }
    }

    /// As [`error`](Self::error), of a call for a stream that did not begin.
    pub(super) fn error_of_stream(&self, status: Status) -> Error {
        if status.code() == Code::Unimplemented && status.source().is_none() {
            let problem = "the server has no `PredictStream`: it answers by `Predict` alone";
            return self.invalid(None, problem, "a server that streams");
        }
        self.error(status)
    }

    /// An answer that came, and is none.
    pub(super) fn unreadable(&self, error: &StructError) -> Error {
        self.failed(&format!("the output {error}"))
    }

    /// The call did not get to an answer of the server's.
    fn broken(&self, source: &(dyn StdError + 'static)) -> Error {
        let known = |error: &(dyn StdError + 'static)| {
            ours(error).or_else(|| error.is::<TimeoutExpired>().then(|| self.passed()))
        };
        if let Some(known) = sources(source).find_map(known) {
            return known;
        }
        match ErrorKind::of(source) {
            ErrorKind::Overloaded => Overloaded::remote(&self.program).into(),
            ErrorKind::Elapsed => {
                Elapsed::new(Scope::Attempt, Stage::Running, self.began.elapsed()).into()
            }
            _ => lost(source).into(),
        }
    }

    /// By the details of a server of this crate.
    fn by_details(&self, details: &StatusDetails, status: &Status) -> Error {
        let wait = proto::retry_after(status);
        let message = status.message();
        match details.kind {
            ErrorKind::Elapsed | ErrorKind::Deadline if self.is_past() => self.passed(),
            ErrorKind::Elapsed | ErrorKind::Deadline => {
                // This call has time left: the server's own limit was that of an attempt.
                let scope = match details.scope() {
                    Some(scope) if scope != Scope::Deadline => scope,
                    _ => Scope::Attempt,
                };
                let limit = details.limit().unwrap_or_else(|| self.began.elapsed());
                Elapsed::new(scope, details.stage(), limit).into()
            }
            ErrorKind::Cancelled => {
                let cause = details.cause().unwrap_or(Cause::Caller);
                Cancelled::new(cause).with_stage(details.stage()).into()
            }
            // Another process: to this one, its end is the end of a server.
            ErrorKind::ShuttingDown | ErrorKind::Lost => {
                Lost::server(message).with_stage(details.stage()).into()
            }
            ErrorKind::Overloaded => {
                let refused = Overloaded::remote(&self.program);
                refused.with_retry_after(wait).into()
            }
            ErrorKind::InvalidInput => {
                let problem = details.fact("problem").unwrap_or(message);
                let expected = details.fact("expected").unwrap_or("something else");
                self.invalid(details.field.as_deref(), problem, expected)
            }
            ErrorKind::LmUnavailable => details.lm_error(message, wait).into(),
            ErrorKind::LmRejected => details.lm_error(message, wait).into_rejected().into(),
            ErrorKind::BudgetExceeded => details.budget_exceeded(wait).into(),
            ErrorKind::Program | ErrorKind::Other => self.failed(message),
        }
    }

    fn by_code(&self, status: &Status) -> Error {
        let message = status.message();
        match status.code() {
            // A server that keeps the client's limit may say the one or the other.
            Code::DeadlineExceeded | Code::Cancelled if self.is_past() => self.passed(),
            Code::DeadlineExceeded => {
                Elapsed::new(Scope::Attempt, Stage::Running, self.began.elapsed()).into()
            }
            Code::Cancelled => Lost::server(with_message("it cancelled the call", message)).into(),
            Code::Unknown if message.starts_with(CUT) => {
                Lost::server("its answer was cut off").into()
            }
            Code::Unavailable => Lost::server(with_message("it is not available", message)).into(),
            Code::ResourceExhausted => {
                let refused = Overloaded::remote(&self.program);
                refused.with_retry_after(proto::retry_after(status)).into()
            }
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated => {
                let problem = format!("the server refused it ({:?}): {message}", status.code());
                self.invalid(None, &problem, "a request that its server takes")
            }
            _ => self.failed(message),
        }
    }

    fn is_past(&self) -> bool {
        let left = self.deadline.map(Deadline::remaining);
        left.is_some_and(|left| left <= self.reserve)
    }

    fn passed(&self) -> Error {
        let limit = self
            .deadline
            .map(|deadline| deadline.remaining_at(self.began));
        Elapsed::new(self.scope, Stage::Running, limit.unwrap_or_default()).into()
    }

    fn invalid(&self, field: Option<&str>, problem: &str, expected: &str) -> Error {
        InvalidInput::new(&self.program, field, problem, expected).into()
    }

    fn failed(&self, message: &str) -> Error {
        let message = format!("on the server of `{}`: {message}", self.program);
        ProgramError::new("Exception", message, "").into()
    }
}

/// The transport has failed for good, and took no call.
pub(super) fn unsent(error: BoxError) -> Error {
    let known = ours(bare(&*error));
    known.unwrap_or_else(|| lost(&*error).with_stage(Stage::BeforeStart).into())
}

/// An error that a layer around the transport made.
fn ours(error: &(dyn StdError + 'static)) -> Option<Error> {
    fn of<E>(error: &(dyn StdError + 'static)) -> Option<Error>
    where
        E: StdError + Clone + Into<Error> + 'static,
    {
        error.downcast_ref::<E>().cloned().map(Into::into)
    }
    of::<Elapsed>(error)
        .or_else(|| of::<Cancelled>(error))
        .or_else(|| of::<Overloaded>(error))
        .or_else(|| of::<InvalidInput>(error))
        .or_else(|| of::<ProgramError>(error))
        .or_else(|| of::<LmError>(error))
        .or_else(|| of::<BudgetExceeded>(error))
        .or_else(|| of::<Lost>(error))
}

fn lost(source: &(dyn StdError + 'static)) -> Lost {
    let stage = if never_sent(source) {
        Stage::BeforeStart
    } else {
        Stage::Running
    };
    // The outermost says only that it is the transport.
    let innermost = sources(source).last().unwrap_or(source);
    let reason = match innermost.to_string() {
        inner if inner == source.to_string() => inner,
        inner => format!("{source}: {inner}"),
    };
    Lost::server(reason).with_stage(stage)
}

/// Whether the server surely did not begin with the call.
fn never_sent(source: &(dyn StdError + 'static)) -> bool {
    let known = sources(source).find_map(|error| {
        if error.is::<ConnectError>() {
            return Some(true);
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && error.is_canceled()
        {
            // The connection was closed with the request still in its queue.
            return Some(true);
        }
        // The server said of this stream, or of all after the last one it takes, that it did not
        // look at it.
        let error = error.downcast_ref::<h2::Error>()?;
        let gone = error.is_go_away() && error.is_remote();
        let reason = error.reason();
        Some(
            reason == Some(h2::Reason::REFUSED_STREAM)
                || gone && reason == Some(h2::Reason::NO_ERROR),
        )
    });
    known == Some(true)
}

fn with_message(what: &str, message: &str) -> String {
    match message {
        "" => what.to_owned(),
        message => format!("{what}: {message}"),
    }
}
