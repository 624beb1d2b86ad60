//! What the call of an error spent, read from and put onto an error of any type.

use std::{any::Any, error::Error as StdError, sync::Arc};

use tower::BoxError;

use super::{Cancelled, Elapsed, Error, LmError, Lost, ProgramError};
use crate::call::Spent;

/// An error that carries what its call spent.
pub(crate) trait Costs {
    fn costs(&self) -> Option<&Arc<Spent>>;

    fn set_costs(&mut self, spent: Arc<Spent>);
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

/// As [`Spent::of`], shared.
pub(crate) fn costs_of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Arc<Spent>> {
    let mut next = Some(error);
    while let Some(error) = next {
        let known = known::<Error>(error)
            .or_else(|| known::<Elapsed>(error))
            .or_else(|| known::<Cancelled>(error))
            .or_else(|| known::<ProgramError>(error))
            .or_else(|| known::<LmError>(error))
            .or_else(|| known::<Lost>(error));
        if let Some(known) = known {
            return known.costs();
        }
        next = error.source();
    }
    None
}

fn known<'a, E: Costs + StdError + 'static>(
    error: &'a (dyn StdError + 'static),
) -> Option<&'a dyn Costs> {
    let error = error.downcast_ref::<E>()?;
    Some(error)
}

/// Whether errors of the type `E` can say what their call spent. Attempts that fail with others
/// need a record from the first on.
#[inline]
pub(crate) fn carries_costs<E: 'static>() -> bool {
    use std::any::TypeId;
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
pub(crate) fn set_costs_in<E: 'static>(error: &mut E, spent: Arc<Spent>) {
    let error: &mut dyn Any = error;
    if let Some(error) = error.downcast_mut::<Error>() {
        error.set_costs(spent);
    } else if let Some(boxed) = error.downcast_mut::<BoxError>()
        && let Some(error) = in_box(boxed)
    {
        error.set_costs(spent);
    }
}

fn in_box(boxed: &mut BoxError) -> Option<&mut dyn Costs> {
    // One after the other: a borrow that is returned from a branch lasts in all others.
    if boxed.is::<Error>() {
        boxed.downcast_mut::<Error>().map(|error| error as _)
    } else if boxed.is::<Elapsed>() {
        boxed.downcast_mut::<Elapsed>().map(|error| error as _)
    } else if boxed.is::<Cancelled>() {
        boxed.downcast_mut::<Cancelled>().map(|error| error as _)
    } else if boxed.is::<ProgramError>() {
        boxed.downcast_mut::<ProgramError>().map(|error| error as _)
    } else if boxed.is::<LmError>() {
        boxed.downcast_mut::<LmError>().map(|error| error as _)
    } else {
        boxed.downcast_mut::<Lost>().map(|error| error as _)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        call::Cause,
        error::{Scope, Stage},
    };

    fn spent(steps: u32) -> Arc<Spent> {
        Arc::new(Spent {
            steps,
            ..Spent::default()
        })
    }

    fn errors() -> [BoxError; 6] {
        let elapsed = Elapsed::new(Scope::Attempt, Stage::Running, Duration::from_secs(1));
        [
            Box::new(Error::from(elapsed.clone())),
            Box::new(elapsed),
            Box::new(Cancelled::new(Cause::Caller)),
            Box::new(ProgramError::new("ValueError", "no", "")),
            Box::new(LmError::new("LMError", "no", None, None)),
            Box::new(Lost::new("it exited")),
        ]
    }

    #[test]
    fn costs_are_put_onto_each_error_that_carries_them_and_read_from_it() {
        for mut error in errors() {
            assert_eq!(costs_in(&error), None);
            set_costs_in(&mut error, spent(1));
            set_costs_in(&mut error, spent(2));
            assert_eq!(costs_in(&error), Some(&spent(2)), "{error}");
        }
        let mut error = Error::from(Lost::new("it exited"));
        set_costs_in(&mut error, spent(3));
        assert_eq!(costs_in(&error), Some(&spent(3)));
    }

    #[test]
    fn an_error_of_another_type_has_no_place_for_costs() {
        assert!(carries_costs::<Error>() && carries_costs::<BoxError>());
        assert!(!carries_costs::<Elapsed>() && !carries_costs::<&str>());
        let mut other = "no idea";
        set_costs_in(&mut other, spent(1));
        assert_eq!(costs_in(&other), None);
        let mut boxed: BoxError = other.into();
        set_costs_in(&mut boxed, spent(1));
        assert_eq!(costs_in(&boxed), None);
    }
}
