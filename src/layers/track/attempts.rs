//! How many attempts a call has had, for a layer that is too far out to see them.
//!
//! An attempt is made in a poll of the call, perhaps below layers that are foreign, so the number
//! comes out through a thread-local around that poll.

use std::cell::Cell;

thread_local! {
    static ATTEMPTS: Cell<u32> = const { Cell::new(0) };
}

/// Says that the call that is being polled begins its attempt number `attempt`, from 1.
pub(crate) fn note(attempt: u32) {
    ATTEMPTS.set(ATTEMPTS.get().max(attempt));
}

/// Runs `poll`, and tells the highest number that was noted in it; 0 if none was.
pub(super) fn observe<T>(poll: impl FnOnce() -> T) -> (T, u32) {
    let outer = ATTEMPTS.replace(0);
    let polled = poll();
    let seen = ATTEMPTS.get();
    // What is observed here is seen further out too.
    ATTEMPTS.set(outer.max(seen));
    (polled, seen)
}
