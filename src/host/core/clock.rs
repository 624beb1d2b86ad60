//! Real time for the host's own gauges.
//!
//! Python never lives under tokio's paused time, so neither does what is measured of it.

#![expect(
    clippy::disallowed_types,
    reason = "the age of a heartbeat is real time, also in a test that pauses tokio's"
)]

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Time since the first use of this clock.
pub(crate) fn now() -> Duration {
    EPOCH.elapsed()
}

/// A moment that one thread sets and others read the age of.
#[derive(Debug, Default)]
pub(crate) struct Moment(AtomicU64);

impl Moment {
    pub(crate) fn touch(&self) {
        self.set(now());
    }

    pub(crate) fn set(&self, moment: Duration) {
        let micros = u64::try_from(moment.as_micros()).unwrap_or(u64::MAX);
        self.0.store(micros, Ordering::Relaxed);
    }

    /// The moment itself, to tell it from the next one. Zero before the first.
    pub(crate) fn stamp(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn age(&self) -> Duration {
        now().saturating_sub(Duration::from_micros(self.0.load(Ordering::Relaxed)))
    }
}
