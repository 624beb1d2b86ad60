//! Why a future is being dropped, and what its work had spent.
//!
//! A layer that drops an inner future knows the reason, and the code that runs in the drop (the
//! service that has to cancel its work) needs it. That code in turn knows what the work had spent,
//! and the layer's error is to tell it. The two never meet, and the future may be foreign, so both
//! travel in a thread-local around the drop itself: no allocation, no token.

use std::{cell::Cell, sync::Arc};

use crate::call::{Cause, Spent};

thread_local! {
    static DROPPING: Cell<Option<Cause>> = const { Cell::new(None) };
    static REPORTED: Cell<Option<Arc<Spent>>> = const { Cell::new(None) };
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
            if self.0.is_none() {
                // Nobody around this asks for it.
                std::mem::drop(take());
            }
        }
    }
    let _restore = Restore(DROPPING.replace(Some(cause)));
    drop()
}

/// As [`with`], and returns what the dropped work [reported](report) to have spent: `None` if it
/// reported nothing.
///
/// ```
/// use std::sync::Arc;
/// use tower_dspy::{Cancelled, Cause, Spent, drop_scope};
///
/// struct Work;
/// impl Drop for Work {
///     fn drop(&mut self) {
///         let mut spent = Spent::default();
///         spent.usage.total_tokens = 21;
///         drop_scope::report(Arc::new(spent));
///     }
/// }
/// let work = Work;
/// let spent = drop_scope::collect(Cause::Shutdown, || drop(work));
/// let error = Cancelled::new(Cause::Shutdown).with_spent(spent);
/// assert_eq!(error.spent().unwrap().usage.total_tokens, 21);
/// ```
pub fn collect(cause: Cause, drop: impl FnOnce()) -> Option<Arc<Spent>> {
    // What a scope around this one has been told so far is not of this work.
    let outer = take();
    let mine = with(cause, || {
        drop();
        take()
    });
    if let Some(outer) = outer.filter(|_| is_active()) {
        put(outer);
    }
    mine
}

/// The cause of the drop that is running on this thread; [`Cause::Dropped`] if no layer named one.
#[must_use]
pub fn cause() -> Cause {
    DROPPING.get().unwrap_or(Cause::Dropped)
}

/// Tells the layer that drops this work what the work had spent. Heard by [`collect`] alone.
///
/// What several works of one layer report is added up; what attempts of one call report, each for
/// all of them, counts once.
pub fn report(spent: Arc<Spent>) {
    if !is_active() {
        return;
    }
    put(match take() {
        None => spent,
        Some(earlier) => Spent::of_both(earlier, spent),
    });
}

/// Whether a layer named the cause of the drop that is running on this thread.
pub(crate) fn is_active() -> bool {
    DROPPING.get().is_some()
}

// A thread that ends may drop futures after its own variables: there is nobody to tell.

fn take() -> Option<Arc<Spent>> {
    REPORTED.try_with(Cell::take).ok().flatten()
}

fn put(spent: Arc<Spent>) {
    let _ = REPORTED.try_with(|reported| reported.set(Some(spent)));
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Work(u32);

    impl Drop for Work {
        fn drop(&mut self) {
            report(Arc::new(Spent {
                steps: self.0,
                ..Spent::default()
            }));
        }
    }

    fn steps(spent: Option<Arc<Spent>>) -> Option<u32> {
        spent.map(|spent| spent.steps)
    }

    #[test]
    fn what_all_of_the_work_spent_is_collected_once() {
        let works = (Work(1), Work(2));
        assert_eq!(steps(collect(Cause::Elapsed, || drop(works))), Some(3));
        assert_eq!(steps(collect(Cause::Elapsed, || ())), None);
    }

    #[test]
    fn without_a_layer_that_collects_a_report_is_not_kept() {
        drop(Work(1));
        with(Cause::Elapsed, || drop(Work(2)));
        assert_eq!(steps(collect(Cause::Elapsed, || ())), None);
    }

    #[test]
    fn a_scope_within_takes_its_own_reports_and_leaves_the_others() {
        let collected = collect(Cause::Deadline, || {
            drop(Work(1));
            assert_eq!(steps(collect(Cause::Elapsed, || drop(Work(2)))), Some(2));
            with(Cause::Superseded, || drop(Work(4)));
        });
        assert_eq!(steps(collected), Some(1 + 4));
    }
}
