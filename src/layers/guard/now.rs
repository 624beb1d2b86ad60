//! One reading of the clock for all layers that get a call at once.
//!
//! A reading costs as much as the rest of a layer. While a layer hands a call on, the layers inside
//! get it within the same stack of calls, a few nanoseconds later, so they take the reading of the
//! outermost. Nothing can wait in between: a call that has to wait for readiness, or for a retry,
//! is handed on from another place, without a reading. An attempt's limit takes the reading away, so
//! that nothing inside the attempt finds it, however long that works before it returns its future.
//!
//! It is a thread-local because the layers between may be foreign.

use std::cell::Cell;

use tokio::time::Instant;

thread_local! {
    static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// When the call came that is being handed on; now, if none is.
#[inline]
pub(crate) fn now() -> Instant {
    NOW.get().unwrap_or_else(Instant::now)
}

/// As [`now`], for the last that may ask.
#[inline]
pub(crate) fn take() -> Instant {
    NOW.take().unwrap_or_else(Instant::now)
}

/// For as long as what it returns is held, a call is being handed on that came at `now`.
#[inline]
pub(crate) fn hand_on(now: Instant) -> HandedOn {
    NOW.set(Some(now));
    HandedOn
}

#[must_use = "the reading is forgotten when this is dropped"]
pub(crate) struct HandedOn;

impl Drop for HandedOn {
    #[inline]
    fn drop(&mut self) {
        NOW.set(None);
    }
}
