//! A counter.

use std::sync::atomic::{AtomicU64, Ordering};

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
}
