//! A program on another server, as a service (feature `tonic`).

mod client;
mod status;
mod streaming;

pub use self::{client::ProgramClient, streaming::StreamingProgramClient};
use crate::error::{Classify, ErrorKind};

/// For `.classify(..)` of a retry layer, a hedge or a fallback: [`ErrorKind::Lost`] if `error` is that
/// of a call that surely never began, else [`ErrorKind::Other`].
///
/// A server that is restarted refuses new calls before it closes, and so does one that has too many;
/// a connection may not come about, or be closed before the call was sent. To repeat such a call costs
/// nobody anything, which is not so for one whose connection broke while its program ran.
///
/// ```
/// use tower_dspy::{Error, ErrorKind, RetryLayer, outbound::tonic::never_began};
///
/// let elsewhere = RetryLayer::new(3)
///     .on_kinds([ErrorKind::Lost])
///     .classify(never_began::<Error>);
/// # let _ = elsewhere;
/// ```
#[must_use]
pub fn never_began<E: Classify>(error: &E) -> ErrorKind {
    let elsewhere = [ErrorKind::Lost, ErrorKind::Overloaded];
    if elsewhere.contains(&error.kind()) && !error.may_have_started() {
        ErrorKind::Lost
    } else {
        ErrorKind::Other
    }
}
