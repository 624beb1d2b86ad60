//! When an enclosing layer is going to end what is being polled, with a grace.
//!
//! The work is polled before the clock, so of two limits at one instant the inner one would always
//! be first, and dropping at once it would take away the grace of the outer one: an attempt's
//! limit, merged with the deadline, would end each last attempt so. A layer with a grace therefore
//! says, around the poll of its work, from when on it will see to the end itself.
//!
//! It is a thread-local because the layers between may be foreign. It never outlasts the poll, in
//! which the enclosing layer goes on to arm or poll an alarm of its own: whoever leaves the end to
//! it does not have to wake anybody.

use std::cell::Cell;

use tokio::time::Instant;

thread_local! {
    static ENDS_AT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs `poll`; what it polls is ended with a grace from `at` on, or earlier if an enclosing layer
/// already said so.
pub(super) fn with<T>(at: Option<Instant>, poll: impl FnOnce() -> T) -> T {
    struct Restore(Option<Instant>);
    impl Drop for Restore {
        fn drop(&mut self) {
            ENDS_AT.set(self.0);
        }
    }
    let outer = ENDS_AT.get();
    let _restore = Restore(outer);
    ENDS_AT.set(match (outer, at) {
        (Some(outer), Some(at)) => Some(outer.min(at)),
        (outer, at) => outer.or(at),
    });
    poll()
}

/// Whether an enclosing layer sees to the end of what is to end at `at`.
pub(crate) fn ends(at: Instant) -> bool {
    ENDS_AT.get().is_some_and(|ends| ends <= at)
}
