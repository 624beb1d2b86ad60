//! How the innermost service of a stack takes a call and ends it: what a DSPy program and the mock
//! that stands for it in tests have in common, so that the two cannot differ.

mod lms;
mod places;
mod stop;
mod turn;

pub(crate) use lms::LmNames;
pub(crate) use stop::Stop;
pub(crate) use turn::{Permits, Turn};

/// Calls that run at once, unless somebody says otherwise.
pub(crate) const MAX_IN_FLIGHT: usize = 64;
/// Calls that wait for their turn, unless somebody says otherwise.
pub(crate) const MAX_WAITING: usize = 1024;
