//! Why a future is being dropped.
//!
//! A layer that drops an inner future knows the reason, and the code that runs in the drop (the
//! service that has to cancel its work) needs it. The two never meet, and the future may be
//! foreign, so the reason travels in a thread-local around the drop itself: no allocation, no token.

use std::cell::Cell;

use crate::Cause;

thread_local! {
    static DROPPING: Cell<Option<Cause>> = const { Cell::new(None) };
}

/// Runs `drop`, a closure that drops a future, so that code in the drop finds `cause`.
///
/// ```
/// use tower_dspy::{Cause, drop_scope};
///
/// struct Work;
/// impl Drop for Work {
///     fn drop(&mut self) {
///         assert_eq!(drop_scope::cause(), Cause::Elapsed);
///     }
/// }
/// let work = Work;
/// drop_scope::with(Cause::Elapsed, || drop(work));
/// assert_eq!(drop_scope::cause(), Cause::Dropped);
/// ```
pub fn with<T>(cause: Cause, drop: impl FnOnce() -> T) -> T {
    struct Restore(Option<Cause>);
    impl Drop for Restore {
        fn drop(&mut self) {
            DROPPING.set(self.0);
        }
    }
    let _restore = Restore(DROPPING.replace(Some(cause)));
    drop()
}

/// The cause of the drop that is running on this thread; [`Cause::Dropped`] if no layer named one.
#[must_use]
pub fn cause() -> Cause {
    DROPPING.get().unwrap_or(Cause::Dropped)
}
