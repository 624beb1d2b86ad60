//! Why a future is being dropped, and what its work had spent.
//!
//! A layer that drops an inner future knows the reason, and the code that runs in the drop (the
//! service that has to cancel its work) needs it. That code in turn knows what the work had spent,
//! and the layer's error carries it. The two never meet, and the future may be foreign, so both
//! travel in a thread-local around the drop itself: no allocation, no token.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use crate::call::{Cause, Spent, record::CallRecord};

thread_local! {
    static CAUSE: Cell<Cause> = const { Cell::new(Cause::Dropped) };
    static REPORTS: RefCell<Option<DropReports>> = const { RefCell::new(None) };
}

/// What the work reported in one drop, to a layer that asked for it.
#[derive(Default)]
struct DropReports {
    /// The records that the work wrote into, each once.
    records: Vec<Arc<CallRecord>>,
    /// What services spent that write into no record.
    unrecorded: Option<Spent>,
    waited: bool,
}

/// What dropped work reported to the layer that dropped it.
pub(crate) struct DropReport {
    /// What the call had spent; `None` if that is nothing.
    pub(crate) spent: Option<Arc<Spent>>,
    /// Whether it still waited for a service to be ready.
    pub(crate) waited: bool,
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
    struct Restore(Cause);
    impl Drop for Restore {
        fn drop(&mut self) {
            CAUSE.set(self.0);
        }
    }
    let _restore = Restore(CAUSE.replace(cause));
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
    end(cause, None, drop).spent
}

/// As [`with`], and returns all that the dropped work reported. What the work spent that wrote into
/// no record, or lost its context, is added to `record`.
pub(crate) fn end(
    cause: Cause,
    record: Option<&Arc<CallRecord>>,
    drop: impl FnOnce(),
) -> DropReport {
    struct Restore(Option<DropReports>);
    impl Drop for Restore {
        fn drop(&mut self) {
            replace(self.0.take());
        }
    }
    // What was reported to the layer around this one is not of this work.
    let restore = Restore(replace(Some(DropReports::default())));
    with(cause, drop);
    let reports = replace(None).unwrap_or_default();
    std::mem::drop(restore);
    DropReport {
        waited: reports.waited,
        spent: reports.spent(record),
    }
}

/// The cause of the drop that is running on this thread; [`Cause::Dropped`] if no layer named one.
#[must_use]
pub fn cause() -> Cause {
    CAUSE.get()
}

/// Tells the layer that drops this work what the work had spent. Heard by [`collect`] alone.
///
/// What several works of one layer report is added up; what attempts of one call report, each for
/// all of them, counts once.
pub fn report(spent: Arc<Spent>) {
    match &spent.record {
        Some(record) => report_record(record.clone()),
        None => {
            write(|reports| {
                let unrecorded = reports.unrecorded.get_or_insert_default();
                unrecorded.add(&spent, CallRecord::MOST);
            });
        }
    }
}

/// As [`report`], for work that wrote into `record`.
pub(crate) fn report_record(record: Arc<CallRecord>) {
    write(|reports| {
        if !reports
            .records
            .iter()
            .any(|known| Arc::ptr_eq(known, &record))
        {
            reports.records.push(record);
        }
    });
}

/// Tells the layer that drops this work that it still waited for a service to be ready.
pub(crate) fn report_wait() {
    write(|reports| reports.waited = true);
}

/// The record of a call, held by a layer that makes several attempts. Reported when a layer around
/// it drops the call: that one may have got the call before there was a record.
#[derive(Debug, Default)]
pub(crate) struct ReportOnDrop(pub(crate) Option<Arc<CallRecord>>);

impl Drop for ReportOnDrop {
    fn drop(&mut self) {
        if let Some(record) = self.0.take() {
            report_record(record);
        }
    }
}

impl DropReports {
    fn spent(self, record: Option<&Arc<CallRecord>>) -> Option<Arc<Spent>> {
        let one = match (record, &*self.records) {
            (Some(record), _) | (None, [record]) => Some(record.clone()),
            (None, _) => None,
        };
        let Some(record) = one else {
            let mut sum = self.unrecorded.unwrap_or_default();
            for record in self.records {
                record.read(|spent| sum.add(spent, CallRecord::MOST));
            }
            return (!sum.is_nothing()).then(|| Arc::new(sum));
        };
        for other in self.records {
            if !Arc::ptr_eq(&other, &record) {
                record.add(&other.read(Spent::clone));
            }
        }
        if let Some(spent) = self.unrecorded {
            record.add(&spent);
        }
        record.spent()
    }
}

// A thread that ends may drop futures after its own variables: there are no reports any more.
fn write(write: impl FnOnce(&mut DropReports)) {
    let _ = REPORTS.try_with(|reports| reports.borrow_mut().as_mut().map(write));
}

fn replace(reports: Option<DropReports>) -> Option<DropReports> {
    let replaced = REPORTS.try_with(|current| current.replace(reports));
    replaced.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Work(u32);

    impl Drop for Work {
        fn drop(&mut self) {
            report(Arc::new(spent(self.0)));
        }
    }

    fn spent(steps: u32) -> Spent {
        Spent {
            steps,
            ..Spent::default()
        }
    }

    fn steps(spent: Option<Arc<Spent>>) -> Option<u32> {
        spent.map(|spent| spent.steps)
    }

    #[test]
    fn a_wait_is_reported_only_to_the_scope_that_drops_it() {
        let report = end(Cause::Deadline, None, || {
            assert!(end(Cause::Elapsed, None, report_wait).waited);
        });
        assert!(!report.waited && report.spent.is_none());
        with(Cause::Elapsed, report_wait);
        assert!(!end(Cause::Elapsed, None, || ()).waited);
    }

    #[test]
    fn spent_tokens_of_all_work_are_collected_once() {
        let works = (Work(1), Work(2));
        assert_eq!(steps(collect(Cause::Elapsed, || drop(works))), Some(3));
        assert_eq!(steps(collect(Cause::Elapsed, || ())), None);
    }

    #[test]
    fn a_report_outside_of_a_scope_is_dropped() {
        drop(Work(1));
        with(Cause::Elapsed, || drop(Work(2)));
        assert_eq!(steps(collect(Cause::Elapsed, || ())), None);
    }

    #[test]
    fn what_the_layers_record_lacks_is_added_to_it_once() {
        let (mine, lost) = (CallRecord::open(), CallRecord::open());
        mine.add(&spent(1));
        lost.add(&spent(2));
        let report = end(Cause::Elapsed, Some(&mine), || {
            report_record(mine.clone());
            for _ in 0..2 {
                report(lost.spent().unwrap());
            }
            drop(Work(4));
        });
        assert_eq!(steps(report.spent), Some(7));
        assert_eq!(steps(mine.spent()), Some(7));
        // Each of two calls keeps its own costs.
        let both = collect(Cause::Elapsed, || {
            [&mine, &lost].into_iter().cloned().for_each(report_record)
        });
        assert_eq!((steps(both), steps(lost.spent())), (Some(9), Some(2)));
    }

    #[test]
    fn a_nested_scope_takes_its_own_reports_alone() {
        let collected = collect(Cause::Deadline, || {
            drop(Work(1));
            assert_eq!(steps(collect(Cause::Elapsed, || drop(Work(2)))), Some(2));
            with(Cause::Superseded, || drop(Work(4)));
        });
        assert_eq!(steps(collected), Some(1 + 4));
    }
}
