//! The sorts of failure that a layer, or a table of statuses, tells apart.

use std::{error::Error as StdError, time::Duration};

use tower::BoxError;

use super::{Cancelled, Elapsed, Error, InvalidInput, LmError, Lost, Overloaded, ProgramError};
use crate::call::{Cause, deadline::InvalidTimeout};

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

    /// The kind of `error`: that of the first among it and its sources which is one of this
    /// crate's errors, or of tower's `Overloaded` and `Elapsed`; else [`Other`](Self::Other).
    #[must_use]
    pub fn of(error: &(dyn StdError + 'static)) -> Self {
        find(error, |error| error.kind()).unwrap_or(Self::Other)
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

impl Classify for BoxError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::of(&**self)
    }

    fn retry_after(&self) -> Option<Duration> {
        find(&**self, |error| error.retry_after()).flatten()
    }

    fn cancel_cause(&self) -> Option<Cause> {
        find(&**self, |error| error.cancel_cause()).flatten()
    }

    fn may_have_started(&self) -> bool {
        find(&**self, |error| error.may_have_started()).unwrap_or(true)
    }
}

/// A time left that cannot be read is an input that is wrong and stays wrong.
impl Classify for InvalidTimeout {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    fn may_have_started(&self) -> bool {
        false
    }
}

impl Classify for tower::load_shed::error::Overloaded {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Overloaded
    }

    fn may_have_started(&self) -> bool {
        false
    }
}

impl Classify for tower::timeout::error::Elapsed {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Elapsed
    }
}

/// Looks through `error` and its sources for the first that knows its sort.
pub(crate) fn find<'a, T>(
    error: &'a (dyn StdError + 'static),
    read: impl FnOnce(&'a dyn Classify) -> T,
) -> Option<T> {
    let mut next = Some(error);
    while let Some(error) = next {
        let known = known::<Error>(error)
            .or_else(|| known::<Elapsed>(error))
            .or_else(|| known::<Cancelled>(error))
            .or_else(|| known::<Overloaded>(error))
            .or_else(|| known::<InvalidInput>(error))
            .or_else(|| known::<InvalidTimeout>(error))
            .or_else(|| known::<ProgramError>(error))
            .or_else(|| known::<LmError>(error))
            .or_else(|| known::<Lost>(error))
            .or_else(|| known::<tower::load_shed::error::Overloaded>(error))
            .or_else(|| known::<tower::timeout::error::Elapsed>(error))
            .or_else(|| of_an_lm(error));
        if let Some(known) = known {
            return Some(read(known));
        }
        next = error.source();
    }
    None
}

fn known<'a, E: Classify + StdError + 'static>(
    error: &'a (dyn StdError + 'static),
) -> Option<&'a dyn Classify> {
    let error = error.downcast_ref::<E>()?;
    Some(error)
}

#[cfg(feature = "lm")]
fn of_an_lm<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a dyn Classify> {
    known::<super::BadStatus>(error).or_else(|| known::<super::LmFailure>(error))
}

#[cfg(not(feature = "lm"))]
fn of_an_lm<'a>(_: &'a (dyn StdError + 'static)) -> Option<&'a dyn Classify> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Scope, Stage};

    #[derive(Debug, thiserror::Error)]
    #[error("wrapped")]
    struct Wrapped(#[source] BoxError);

    fn attempt() -> Elapsed {
        Elapsed::new(Scope::Attempt, Stage::Running, Duration::from_secs(1))
    }

    #[test]
    fn an_error_kind_is_found_through_wrappers() {
        let error: BoxError = Box::new(Wrapped(Box::new(Wrapped(attempt().into()))));
        assert_eq!(error.kind(), ErrorKind::Elapsed);

        let error: BoxError = Box::new(Wrapped(Box::new(Error::from(Cancelled::new(
            Cause::Shutdown,
        )))));
        assert_eq!(error.kind(), ErrorKind::ShuttingDown);
        assert_eq!(error.cancel_cause(), Some(Cause::Shutdown));
    }

    #[test]
    fn each_failure_is_classified_when_boxed_without_a_wrapper() {
        let bare: [(BoxError, ErrorKind); 5] = [
            (Box::new(Overloaded::new("qa", 1, 0)), ErrorKind::Overloaded),
            (
                Box::new(InvalidInput::new("qa", None, "there is none", "an object")),
                ErrorKind::InvalidInput,
            ),
            (
                Box::new(ProgramError::new("ValueError", "no", "")),
                ErrorKind::Program,
            ),
            (
                Box::new(LmError::new("LMAuthError", "no", Some(401), None)),
                ErrorKind::LmRejected,
            ),
            (Box::new(Lost::new("it exited")), ErrorKind::Lost),
        ];
        for (error, kind) in bare {
            assert_eq!(error.kind(), kind, "{error}");
            let wrapped: BoxError = Box::new(Wrapped(error));
            assert_eq!(wrapped.kind(), kind, "{wrapped}");
        }
        let wait = Duration::from_secs(3);
        let busy: BoxError = Box::new(LmError::new(
            "LMRateLimitError",
            "no",
            Some(429),
            Some(wait),
        ));
        assert_eq!(busy.retry_after(), Some(wait));
    }

    #[test]
    fn errors_of_tower_are_classified_and_unknown_errors_are_other() {
        let shed: BoxError = Box::new(tower::load_shed::error::Overloaded::new());
        assert_eq!(shed.kind(), ErrorKind::Overloaded);
        let stranger: BoxError = "no idea".into();
        assert_eq!(stranger.kind(), ErrorKind::Other);
    }
}
