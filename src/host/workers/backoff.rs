//! The pause before what has failed is tried again.

use std::time::Duration;

/// The pause after the first failure; each further one in a row doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The failures in a row, and the end of the pause after the last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    retry_at: Duration,
}

impl Backoff {
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether no pause is under way.
    pub(super) fn is_over(&self, now: Duration) -> bool {
        self.retry_at <= now
    }

    pub(super) fn failed(&mut self, now: Duration) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.retry_at = now.saturating_add(pause.min(LONGEST_PAUSE));
    }
}
