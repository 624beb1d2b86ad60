//! The classification of errors.

use std::time::Duration;

use crate::call::{Cause, ErrorKind};

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
