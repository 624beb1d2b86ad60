//! How a layer reads the sort of a failure, and which sorts it acts on.

use std::{fmt, time::Duration};

use crate::{
    call::Cause,
    error::{Classify, ErrorKind},
};

/// Reads the [`ErrorKind`] of an error: [`ByClassify`], or [`ByFn`] after `.classify(..)`.
///
/// It is a layer's type parameter rather than a bound on the error, so that a foreign error type
/// needs no implementation of [`Classify`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot tell the `ErrorKind` of `{E}`",
    note = "implement `tower_dspy::Classify` for `{E}`, or give the layer a function with `.classify(|error: &{E}| ..)`"
)]
pub trait Classifier<E> {
    /// The sort of `error`.
    fn kind(&self, error: &E) -> ErrorKind;

    /// How long whoever failed asked to be left alone, if it did.
    fn retry_after(&self, _: &E) -> Option<Duration> {
        None
    }

    /// Why the call was cancelled, if `error` is that and says so.
    fn cancel_cause(&self, _: &E) -> Option<Cause> {
        None
    }
}

/// Asks the error itself, through [`Classify`].
#[derive(Clone, Copy, Debug, Default)]
pub struct ByClassify;

impl<E: Classify> Classifier<E> for ByClassify {
    fn kind(&self, error: &E) -> ErrorKind {
        error.kind()
    }

    fn retry_after(&self, error: &E) -> Option<Duration> {
        error.retry_after()
    }

    fn cancel_cause(&self, error: &E) -> Option<Cause> {
        error.cancel_cause()
    }
}

/// Asks a function, which knows nothing of Retry-After.
#[derive(Clone, Copy)]
pub struct ByFn<F>(pub(super) F);

impl<E, F: Fn(&E) -> ErrorKind> Classifier<E> for ByFn<F> {
    fn kind(&self, error: &E) -> ErrorKind {
        (self.0)(error)
    }
}

impl<F> fmt::Debug for ByFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByFn")
    }
}

/// A set of kinds, one bit each.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Kinds(u32);

impl Kinds {
    pub(super) const fn of(kinds: &[ErrorKind]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < kinds.len() {
            bits |= 1 << kinds[i] as u32;
            i += 1;
        }
        Self(bits)
    }

    pub(super) const fn without(self, kinds: Self) -> Self {
        Self(self.0 & !kinds.0)
    }

    pub(super) const fn all_but(kinds: &[ErrorKind]) -> Self {
        Self(!Self::of(kinds).0)
    }

    pub(super) const fn contains(self, kind: ErrorKind) -> bool {
        self.0 & (1 << kind as u32) != 0
    }
}

impl FromIterator<ErrorKind> for Kinds {
    fn from_iter<I: IntoIterator<Item = ErrorKind>>(kinds: I) -> Self {
        kinds
            .into_iter()
            .fold(Self(0), |set, kind| Self(set.0 | Self::of(&[kind]).0))
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds = ErrorKind::ALL.to_vec();
        kinds.retain(|kind| self.contains(*kind));
        f.debug_set().entries(kinds).finish()
    }
}
