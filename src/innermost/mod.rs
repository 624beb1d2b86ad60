//! How the innermost service of a stack takes a call and ends it: what a DSPy program and the mock
//! that stands for it in tests have in common, so that the two cannot differ.

#[cfg(any(feature = "_host", feature = "test-util"))]
mod lms;
#[cfg(any(feature = "_host", feature = "test-util"))]
mod places;
mod stop;
#[cfg(any(feature = "_host", feature = "test-util"))]
mod turn;

#[cfg(any(feature = "_host", feature = "test-util"))]
pub(crate) use lms::LmNames;
pub(crate) use stop::Stop;
#[cfg(any(feature = "_host", feature = "test-util"))]
pub(crate) use turn::{Permits, Turn};

/// Calls that run at once, unless somebody says otherwise.
#[cfg(any(feature = "_host", feature = "test-util"))]
pub(crate) const MAX_IN_FLIGHT: usize = 64;
/// Calls that wait for their turn, unless somebody says otherwise.
#[cfg(any(feature = "_host", feature = "test-util"))]
pub(crate) const MAX_WAITING: usize = 1024;
