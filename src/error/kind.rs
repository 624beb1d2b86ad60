//! The sorts of failure that a layer, or a table of statuses, tells apart.

use std::time::Duration;

use crate::call::{CallEnd, Cause};

/// The sort of a failure; in a configuration in snake case, as `"lm_unavailable"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// One attempt took too long; another may be quicker.
    Elapsed,
    /// The deadline of the whole call passed: there is no time for anything more.
    Deadline,
    /// The call was stopped because nobody wants its answer any more.
    Cancelled,
    /// The service takes no more calls because it is shutting down.
    ShuttingDown,
    /// There are too many calls.
    Overloaded,
    /// The inputs are wrong and stay wrong.
    InvalidInput,
    /// The program raised an exception.
    Program,
    /// The LM could not be reached, had no capacity, or failed on its side: worth another try.
    LmUnavailable,
    /// The LM refused the request, as for a wrong key, or a quota that is used up: the same
    /// request will be refused again.
    LmRejected,
    /// What ran the call is gone.
    Lost,
    /// A failure that this crate knows nothing about.
    Other,
}

impl ErrorKind {
    /// Each of them, in the order of their declaration.
    pub(crate) const ALL: [Self; 11] = [
        Self::Elapsed,
        Self::Deadline,
        Self::Cancelled,
        Self::ShuttingDown,
        Self::Overloaded,
        Self::InvalidInput,
        Self::Program,
        Self::LmUnavailable,
        Self::LmRejected,
        Self::Lost,
        Self::Other,
    ];
}

impl ErrorKind {
    /// How a call ends that fails so, by a cancellation for `cause`.
    pub(crate) const fn call_end(self, cause: Option<Cause>) -> CallEnd {
        match self {
            Self::Elapsed | Self::Deadline => CallEnd::TimedOut,
            Self::Cancelled => CallEnd::Cancelled(cause),
            Self::ShuttingDown => CallEnd::Cancelled(Some(Cause::Shutdown)),
            _ => CallEnd::Failed,
        }
    }
}

/// An error that knows its sort.
///
/// There is no blanket implementation, so implement it for your own error type by asking
/// [`ErrorKind::of`], or give a layer a function by its `classify` method.
///
/// ```
/// use tower_dspy::{Classify, ErrorKind};
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("could not answer")]
/// struct MyError(#[from] tower_dspy::Elapsed);
///
/// impl Classify for MyError {
///     fn kind(&self) -> ErrorKind {
///         ErrorKind::of(self)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "the error `{Self}` does not say its `ErrorKind`",
    note = "implement `tower_dspy::Classify` for it with `ErrorKind::of(self)`, or give the layer a function with `.classify(..)`"
)]
pub trait Classify {
    /// The sort of this failure.
    fn kind(&self) -> ErrorKind;

    /// How long whoever failed asked to be left alone, if it did.
    fn retry_after(&self) -> Option<Duration> {
        None
    }

    /// Why the call was cancelled, if that is the failure and it says so.
    fn cancel_cause(&self) -> Option<Cause> {
        None
    }

    /// Whether the work may have begun: `false` only if it surely did not, so that another try, also
    /// elsewhere, repeats nothing.
    fn may_have_started(&self) -> bool {
        true
    }
}
