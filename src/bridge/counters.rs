//! What the host counts. Each is a plain atomic: reading them takes no lock and no GIL.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::clock::Moment;

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) submitted: Count,
    pub(super) started: Count,
    /// Started or not, a call is settled once.
    pub(super) settled: Count,
    /// Settled without ever having been started.
    pub(super) never_started: Count,
    pub(super) cancelled: Count,
    pub(super) strays: Count,
    /// Calls whose outcome is out while their work goes on.
    pub(super) orphans: Gauge,
    /// LM exchanges under way.
    pub(super) in_lm_calls: Gauge,
    /// Threads that were given up and still work.
    pub(super) abandoned: Gauge,
    /// Threads that took the place of an abandoned one.
    pub(super) replaced: Count,
    /// Of the oldest queued call, about: when it was queued.
    pub(super) queue_head: Moment,
    /// The loop's heartbeat.
    pub(super) beat: Moment,
    /// The last time a command or an outcome crossed between Rust and Python.
    pub(super) crossing: Moment,
}

/// Only ever goes up.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down. The two may pass each other on two threads, so it may dip below zero within.
#[derive(Debug, Default)]
pub(super) struct Gauge(AtomicI64);

impl Gauge {
    pub(super) fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn down(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        u64::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(0)
    }
}
