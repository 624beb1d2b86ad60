//! One error of each kind.

use std::time::Duration;

use crate::{
    call::{Budget, BudgetLimits, Cause},
    error::{
        BudgetExceeded, Cancelled, Elapsed, Error, ErrorKind, InvalidInput, LmError, Lost,
        Overloaded, ProgramError, Scope, Stage,
    },
};

/// A typical [`Error`] of `kind`; `None` for [`ErrorKind::Other`], which no `Error` is.
///
/// A test that looks at more than the kind makes its own, as with [`LmError::new`] for a status and
/// a `Retry-After`.
///
/// ```
/// use tower_dspy::{Classify, ErrorKind, testing::error_of};
///
/// let error = error_of(ErrorKind::LmUnavailable).unwrap();
/// assert_eq!(error.kind(), ErrorKind::LmUnavailable);
/// assert!(error_of(ErrorKind::Other).is_none());
/// ```
#[must_use]
pub fn error_of(kind: ErrorKind) -> Option<Error> {
    let passed = |scope| Elapsed::new(scope, Stage::Running, Duration::from_secs(1));
    Some(match kind {
        ErrorKind::Elapsed => passed(Scope::Attempt).into(),
        ErrorKind::Deadline => passed(Scope::Deadline).into(),
        ErrorKind::Cancelled => Cancelled::new(Cause::Caller).into(),
        ErrorKind::ShuttingDown => Cancelled::new(Cause::Shutdown).into(),
        ErrorKind::Overloaded => Overloaded::new("mock", 1, 0).into(),
        ErrorKind::InvalidInput => {
            InvalidInput::new("mock", None, "the inputs are wrong", "others").into()
        }
        ErrorKind::Program => ProgramError::new("ValueError", "no answer", "").into(),
        ErrorKind::LmUnavailable => {
            LmError::new("LMServerError", "out of order", Some(503), None).into()
        }
        ErrorKind::LmRejected => LmError::new("LMAuthError", "wrong key", Some(401), None).into(),
        ErrorKind::BudgetExceeded => {
            let limits = BudgetLimits::new().with_name("mock").with_tokens(0);
            BudgetExceeded::new(&Budget::new(limits)).into()
        }
        ErrorKind::Lost => Lost::new("the mock says so").into(),
        ErrorKind::Other => return None,
    })
}
