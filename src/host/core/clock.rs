//! The host's clock: real time, also in a test that pauses tokio's.

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

/// An instant that one thread writes and others read the age of, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Timestamp(AtomicU64);

impl Timestamp {
    pub(crate) fn set_now(&self) {
        self.set(now());
    }

    pub(crate) fn set(&self, instant: Duration) {
        let micros = u64::try_from(instant.as_micros()).unwrap_or(u64::MAX);
        self.0.store(micros, Ordering::Relaxed);
    }

    /// The stored value; zero before the first.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn age(&self) -> Duration {
        now().saturating_sub(Duration::from_micros(self.get()))
    }
}
