//! The threads that did not stop within their grace and were given up.

use super::count::{Count, Gauge, GaugeGuard};

/// How many there are, and may be.
#[derive(Debug)]
pub(crate) struct AbandonedThreads {
    max: usize,
    working: Gauge,
    /// Threads that took the place of an abandoned one.
    pub(crate) replaced: Count,
}

impl AbandonedThreads {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            working: Gauge::default(),
            replaced: Count::default(),
        }
    }

    /// Counts a thread as abandoned until the guard is dropped.
    pub(crate) fn abandon(&self, replaced: bool) -> GaugeGuard {
        let guard = self.working.guard();
        self.replaced.add(replaced.into());
        tracing::warn!(
            target: "tower_dspy",
            abandoned = self.working.get(),
            replaced,
            "a thread did not stop within its grace and was given up; its call stays in flight"
        );
        guard
    }

    /// Abandoned threads that still work.
    pub(crate) fn working(&self) -> u64 {
        self.working.get()
    }

    /// The number of abandoned threads, if no more may be.
    pub(crate) fn exhausted(&self) -> Option<u64> {
        let abandoned = self.working.get();
        (abandoned > 0 && abandoned >= self.max as u64).then_some(abandoned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_exhausted_while_as_many_as_may_be_are_abandoned() {
        let threads = AbandonedThreads::new(2);
        assert_eq!(threads.exhausted(), None);
        let first = threads.abandon(true);
        assert_eq!(threads.exhausted(), None);
        let _second = threads.abandon(false);
        assert_eq!(threads.exhausted(), Some(2));
        drop(first);
        assert_eq!((threads.exhausted(), threads.working()), (None, 1));
        assert_eq!(threads.replaced.get(), 1);
    }

    #[test]
    fn a_host_that_may_abandon_none_is_not_exhausted_before_one_is() {
        let threads = AbandonedThreads::new(0);
        assert_eq!(threads.exhausted(), None);
        let _one = threads.abandon(false);
        assert_eq!(threads.exhausted(), Some(1));
    }
}
