//! A counter and a gauge.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// A counter, which only rises.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds `n`, up to the greatest number; returns the value before.
    pub(crate) fn add(&self, n: u64) -> u64 {
        let add = |count: u64| Some(count.saturating_add(n));
        let added = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        added.unwrap_or_else(|count| count)
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The number of its guards that are alive.
#[derive(Debug, Default)]
pub(crate) struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// Counts up, and down again when the guard is dropped.
    #[must_use]
    pub(crate) fn guard(&self) -> GaugeGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        GaugeGuard(self.0.clone())
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One count of a [`Gauge`].
#[derive(Debug)]
pub(crate) struct GaugeGuard(Arc<AtomicU64>);

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_stops_at_its_greatest() {
        let count = Count::default();
        assert_eq!(count.add(u64::MAX - 1), 0);
        assert_eq!(count.add(7), u64::MAX - 1);
        assert_eq!(count.get(), u64::MAX);
    }

    #[test]
    fn a_gauge_counts_the_guards_that_are_alive() {
        let gauge = Gauge::default();
        let (first, second) = (gauge.guard(), gauge.guard());
        assert_eq!(gauge.get(), 2);
        drop(first);
        assert_eq!(gauge.get(), 1);
        drop((gauge.guard(), second));
        assert_eq!(gauge.get(), 0);
    }
}
