//! What few polls do, kept out of the way of the others.
//!
//! The layers of a stack are polled within each other, and compiled into one function as long as
//! each is short. Then the answer of a call that is ready goes through all of them in registers. It
//! would be stored and loaded again at each layer if one of them, on whatever branch, handed the
//! place of its answer to another function to fill.

use std::task::Poll;

/// Runs `poll` as a function of its own, which has a place of its own for the answer.
#[inline(always)]
pub(crate) fn aside<T>(poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
    #[inline(never)]
    fn apart<T>(poll: impl FnOnce() -> Poll<T>) -> Option<T> {
        match poll() {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }
    match apart(poll) {
        Some(answer) => Poll::Ready(answer),
        None => Poll::Pending,
    }
}
