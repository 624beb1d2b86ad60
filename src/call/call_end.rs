//! How a call ends.

use crate::call::Cause;

/// The end of a call, or of the stream that it was answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallEnd {
    Completed,
    Failed,
    TimedOut,
    /// By an error that may know its cause.
    Cancelled(Option<Cause>),
    /// Without an answer.
    Dropped,
}
