//! The kind and the costs of an error of any type, read from it or from its sources.

use std::{
    any::{Any, TypeId},
    error::Error as StdError,
    sync::Arc,
    time::Duration,
};

use tower::BoxError;

use super::{
    BudgetExceeded, Cancelled, Classify, Costs, Elapsed, Error, ErrorCosts, ErrorKind,
    InvalidInput, LmError, Lost, Overloaded, ProgramError, sources::sources,
};
use crate::call::{CallId, Cause, Spent, deadline::InvalidTimeout};

impl ErrorKind {
    /// The kind of `error`: that of the first among it and its sources which is one of this
    /// crate's errors, or of tower's `Overloaded` and `Elapsed`; else [`Other`](Self::Other).
    #[must_use]
    pub fn of(error: &(dyn StdError + 'static)) -> Self {
        find(error).map_or(Self::Other, |error| error.kind())
    }
}

impl Classify for BoxError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::of(&**self)
    }

    fn retry_after(&self) -> Option<Duration> {
        find(&**self)?.retry_after()
    }

    fn cancel_cause(&self) -> Option<Cause> {
        find(&**self)?.cancel_cause()
    }

    fn may_have_started(&self) -> bool {
        find(&**self).is_none_or(|error| error.may_have_started())
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

impl Costs for InvalidTimeout {}
impl Costs for tower::load_shed::error::Overloaded {}
impl Costs for tower::timeout::error::Elapsed {}
#[cfg(feature = "lm")]
impl Costs for super::BadStatus {}
#[cfg(feature = "lm")]
impl Costs for super::LmFailure {}

/// The first of `error` and its sources that knows its sort.
pub(crate) fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a dyn Costs> {
    sources(error).find_map(|error| {
        let known = [
            known::<Elapsed>,
            known::<Cancelled>,
            known::<Overloaded>,
            known::<InvalidInput>,
            known::<InvalidTimeout>,
            known::<ProgramError>,
            known::<LmError>,
            known::<BudgetExceeded>,
            known::<Lost>,
            known::<tower::load_shed::error::Overloaded>,
            known::<tower::timeout::error::Elapsed>,
            #[cfg(feature = "lm")]
            known::<super::BadStatus>,
            #[cfg(feature = "lm")]
            known::<super::LmFailure>,
        ];
        known.iter().find_map(|known| known(error))
    })
}

fn known<'a, E: Costs>(error: &'a (dyn StdError + 'static)) -> Option<&'a dyn Costs> {
    let error = error.downcast_ref::<E>()?;
    Some(error)
}

impl Spent {
    /// What the call of `error` had spent: of the first among it and its sources that is one of this
    /// crate's errors.
    ///
    /// ```
    /// use std::{sync::Arc, time::Duration};
    /// use tower_dspy::{Elapsed, Scope, Spent, Stage};
    ///
    /// let elapsed = Elapsed::new(Scope::Attempt, Stage::Running, Duration::from_secs(4));
    /// let error: tower::BoxError = elapsed.with_spent(Arc::new(Spent::default())).into();
    /// assert!(Spent::of(&*error).is_some());
    /// ```
    #[must_use]
    pub fn of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        costs_of(error).map(|spent| &**spent)
    }
}

impl CallId {
    /// The id of the call of `error`: of the first among it and its sources that is one of this
    /// crate's errors, if that has one.
    ///
    /// ```
    /// use tower_dspy::{CallId, Cancelled, Cause};
    ///
    /// let id = CallId::next();
    /// let error: tower::BoxError = Cancelled::new(Cause::Caller).with_call_id(id).into();
    /// assert_eq!(CallId::of(&*error), Some(id));
    /// ```
    #[must_use]
    pub fn of(error: &(dyn StdError + 'static)) -> Option<Self> {
        find(error)?.carried()?.call_id()
    }
}

/// As [`Spent::of`], shared.
pub(crate) fn costs_of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Arc<Spent>> {
    find(error)?.costs()
}

/// Whether errors of the type `E` can say what their call spent. Attempts that fail with others
/// need a record from the first on.
#[inline]
pub(crate) fn carries_costs<E: 'static>() -> bool {
    let error = TypeId::of::<E>();
    error == TypeId::of::<Error>() || error == TypeId::of::<BoxError>()
}

/// What the call of `error` spent, if its type can say so.
pub(crate) fn costs_in<E: 'static>(error: &E) -> Option<&Arc<Spent>> {
    let error: &dyn Any = error;
    match error.downcast_ref::<BoxError>() {
        Some(boxed) => costs_of(&**boxed),
        None => error.downcast_ref::<Error>()?.costs(),
    }
}

/// Puts `spent` onto `error` if its type has a place for it; in a box onto the error in it, not onto
/// a source of that.
pub(crate) fn set_costs_in<E: 'static>(error: &mut E, spent: &Arc<Spent>) {
    let error: &mut dyn Any = error;
    if let Some(error) = error.downcast_mut::<Error>() {
        error.set_costs(spent.clone());
    } else if let Some(boxed) = error.downcast_mut::<BoxError>() {
        let _ = set_in::<Error>(boxed, spent)
            || set_in::<Elapsed>(boxed, spent)
            || set_in::<Cancelled>(boxed, spent)
            || set_in::<ProgramError>(boxed, spent)
            || set_in::<LmError>(boxed, spent)
            || set_in::<BudgetExceeded>(boxed, spent)
            || set_in::<Lost>(boxed, spent);
    }
}

fn set_in<E: Costs>(boxed: &mut BoxError, spent: &Arc<Spent>) -> bool {
    let error = boxed.downcast_mut::<E>();
    error.map(|error| error.set_costs(spent.clone())).is_some()
}

/// Puts the id of its call onto `error` if its type has a place for it, and it has none.
pub(crate) fn set_call_id_in<E: 'static>(error: &mut E, id: CallId) {
    let error: &mut dyn Any = error;
    let carried = match error.downcast_mut::<BoxError>() {
        Some(boxed) => carried_in_box(boxed),
        None => carried_in(error),
    };
    if let Some(carried) = carried {
        carried.set_ids(Some(id), None);
    }
}

/// The place for an id in `$error`, if its type is an error of this crate. The type is checked first: a
/// borrow that is returned would last through the checks after it.
macro_rules! carried_by {
    ($error:expr) => {
        carried_by!(
            $error,
            Error,
            Elapsed,
            Cancelled,
            Overloaded,
            InvalidInput,
            ProgramError,
            LmError,
            BudgetExceeded,
            Lost
        )
    };
    ($error:expr, $($ours:ty),+) => {{
        $(if $error.is::<$ours>() {
            return $error.downcast_mut::<$ours>()?.carried_mut();
        })+
        None
    }};
}

fn carried_in(error: &mut dyn Any) -> Option<&mut ErrorCosts> {
    carried_by!(error)
}

fn carried_in_box(error: &mut BoxError) -> Option<&mut ErrorCosts> {
    carried_by!(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        call::{Budget, BudgetLimits},
        error::{Scope, Stage},
    };

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
        let budget = Budget::new(BudgetLimits::new());
        let bare: [(BoxError, ErrorKind); 6] = [
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
            (
                Box::new(BudgetExceeded::new(&budget)),
                ErrorKind::BudgetExceeded,
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

    fn spent(steps: u32) -> Arc<Spent> {
        Arc::new(Spent {
            steps,
            ..Spent::default()
        })
    }

    fn errors() -> [BoxError; 7] {
        let elapsed = Elapsed::new(Scope::Attempt, Stage::Running, Duration::from_secs(1));
        [
            Box::new(Error::from(elapsed.clone())),
            Box::new(elapsed),
            Box::new(Cancelled::new(Cause::Caller)),
            Box::new(ProgramError::new("ValueError", "no", "")),
            Box::new(LmError::new("LMError", "no", None, None)),
            Box::new(BudgetExceeded::new(&Budget::new(BudgetLimits::new()))),
            Box::new(Lost::new("it exited")),
        ]
    }

    #[test]
    fn costs_are_put_onto_each_error_that_carries_them_and_read_from_it() {
        for mut error in errors() {
            assert_eq!(costs_in(&error), None);
            set_costs_in(&mut error, &spent(1));
            set_costs_in(&mut error, &spent(2));
            assert_eq!(costs_in(&error), Some(&spent(2)), "{error}");
        }
        let mut error = Error::from(Lost::new("it exited"));
        set_costs_in(&mut error, &spent(3));
        assert_eq!(costs_in(&error), Some(&spent(3)));
    }

    #[test]
    fn an_error_of_another_type_has_no_place_for_costs() {
        assert!(carries_costs::<Error>() && carries_costs::<BoxError>());
        assert!(!carries_costs::<Elapsed>() && !carries_costs::<&str>());
        let mut other = "no idea";
        set_costs_in(&mut other, &spent(1));
        assert_eq!(costs_in(&other), None);
        let mut boxed: BoxError = other.into();
        set_costs_in(&mut boxed, &spent(1));
        assert_eq!(costs_in(&boxed), None);
    }
}
