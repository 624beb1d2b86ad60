//! How a call ends.

use crate::call::{Cause, ErrorKind};

/// The end of a call, or of the stream that it was answered with. The kind is that of its error; an
/// end without an error has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallEnd {
    Completed,
    /// By an error, or by a panic.
    Failed(Option<ErrorKind>),
    TimedOut(Option<ErrorKind>),
    /// By an error that may know its cause.
    Cancelled(Option<Cause>, Option<ErrorKind>),
    /// Without an answer.
    Dropped,
}

impl CallEnd {
    /// How a call ends that fails with an error of this kind, by a cancellation for `cause`.
    pub(crate) const fn of_error(kind: ErrorKind, cause: Option<Cause>) -> Self {
        match kind {
            ErrorKind::Elapsed | ErrorKind::Deadline => Self::TimedOut(Some(kind)),
            ErrorKind::Cancelled => Self::Cancelled(cause, Some(kind)),
            ErrorKind::ShuttingDown => Self::Cancelled(Some(Cause::Shutdown), Some(kind)),
            _ => Self::Failed(Some(kind)),
        }
    }

    /// The kind of the error.
    pub(crate) const fn kind(self) -> Option<ErrorKind> {
        match self {
            Self::Failed(kind) | Self::TimedOut(kind) | Self::Cancelled(_, kind) => kind,
            Self::Completed | Self::Dropped => None,
        }
    }
}
