//! [`Overloaded`]: no room for one more call.

use std::time::Duration;

use super::{
    Classify, Costs, ErrorKind,
    costs::{ErrorCosts, call_id_in_field},
    counted, debug_as_display,
};
use crate::call::CallId;

/// The service has as many calls as it may have, and as many waiting; or its host has given up so
/// many threads that sync programs are refused.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` {}", .0.program, .0.why)]
pub struct Overloaded(Box<OverloadedFields>);

#[derive(Clone, PartialEq, Eq)]
struct OverloadedFields {
    program: Box<str>,
    why: Box<str>,
    retry_after: Option<Duration>,
    /// Only the id of the call: nothing was spent.
    call: ErrorCosts,
}

impl Overloaded {
    /// `program` has `max_in_flight` calls in flight, and `max_waiting` more wait: what a mock in a
    /// test answers then.
    #[must_use]
    pub fn new(program: &str, max_in_flight: usize, max_waiting: usize) -> Self {
        let why = format!(
            "already has {} in flight and {max_waiting} waiting; try again later, or raise \
             `max_in_flight` or `max_waiting`",
            counted(max_in_flight, "call"),
        );
        Self::saying(program, why)
    }

    /// One tenant has as many calls of `program` in flight as it may have.
    #[cfg(any(feature = "_host", feature = "test-util"))]
    pub(crate) fn tenant(program: &str, max_in_flight: usize) -> Self {
        let why = format!(
            "already has {} of this tenant in flight; try again later, or raise \
             `max_in_flight_per_tenant`",
            counted(max_in_flight, "call"),
        );
        Self::saying(program, why)
    }

    /// `threads` that do not stop were given up, and no more may be.
    #[cfg(feature = "_host")]
    pub(crate) fn abandoned(program: &str, threads: u64) -> Self {
        let why = format!(
            "is sync, and the host has given up {} already; try again later or elsewhere, start the \
             process anew if that lasts, or raise `max_abandoned`",
            counted(threads, "thread"),
        );
        Self::saying(program, why)
    }

    /// The server of `program` has too many calls.
    #[cfg(feature = "tonic")]
    pub(crate) fn remote(program: &str) -> Self {
        Self::saying(program, "has too many calls on its server".into())
    }

    fn saying(program: &str, why: String) -> Self {
        Self(Box::new(OverloadedFields {
            program: program.into(),
            why: why.into(),
            retry_after: None,
            call: ErrorCosts::NONE,
        }))
    }

    /// The same, with the time after which another try makes sense.
    #[must_use]
    pub fn with_retry_after(mut self, wait: impl Into<Option<Duration>>) -> Self {
        self.0.retry_after = wait.into();
        self
    }

    /// After what time another try makes sense, if that is known.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

impl Costs for Overloaded {
    fn carried(&self) -> Option<&ErrorCosts> {
        Some(&self.0.call)
    }

    fn carried_mut(&mut self) -> Option<&mut ErrorCosts> {
        Some(&mut self.0.call)
    }
}

call_id_in_field!(Overloaded, 0.call);

debug_as_display!(Overloaded);

impl Classify for Overloaded {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Overloaded
    }

    fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    fn may_have_started(&self) -> bool {
        false
    }
}
