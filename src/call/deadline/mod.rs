//! The instant after which nobody waits for an answer, and how it is told to others.
//!
//! Clocks differ, so what crosses a wire is the time left: as gRPC's `grpc-timeout`
//! ([`GrpcTimeout`]), or in a header of plain HTTP ([`RequestTimeout`]).

mod grpc_timeout;
mod request_timeout;
mod wire;

pub use grpc_timeout::GrpcTimeout;
pub use request_timeout::RequestTimeout;
pub(crate) use wire::from_nanos;
pub use wire::{InvalidTimeout, TimeoutProblem};

use std::{fmt, time::Duration};

use tokio::time::Instant;

/// Stands for "no limit" wherever a duration is too long to add to the clock.
///
/// About 30 years, the bound that tokio itself uses for `sleep_until`.
const FAR_FUTURE: Duration = Duration::from_secs(86_400 * 365 * 30);

/// An absolute point in time, in tokio's clock, so that paused time works.
///
/// A deadline is made once, where a request enters, and travels inward with it. Layers take the
/// [earlier](Self::earlier) of it and their own limit; none can move it later.
///
/// ```
/// use std::time::Duration;
/// use tower_dspy::Deadline;
///
/// let request = Deadline::within(Duration::from_secs(10));
/// let attempt = request.earlier(Deadline::within(Duration::from_secs(4)));
/// assert!(attempt < request);
/// // Any duration is accepted.
/// assert!(!Deadline::within(Duration::MAX).is_past());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline at `instant`.
    #[inline]
    #[must_use]
    pub const fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// The deadline `limit` from now. A limit past the clock's range means about 30 years.
    #[must_use]
    pub fn within(limit: Duration) -> Self {
        Self::at(Instant::now()).later_by(limit)
    }

    /// The instant of this deadline.
    #[inline]
    #[must_use]
    pub const fn instant(self) -> Instant {
        self.0
    }

    /// What is left until the deadline; zero once it has passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.remaining_at(Instant::now())
    }

    /// What was, or will be, left at `now`; zero once the deadline has passed.
    #[inline]
    #[must_use]
    pub fn remaining_at(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }

    /// Whether the deadline has been reached.
    #[inline]
    #[must_use]
    pub fn is_past(self) -> bool {
        self.0 <= Instant::now()
    }

    /// The earlier of the two: how an inner limit merges with an outer one.
    #[inline]
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        self.min(other)
    }

    /// This deadline moved `reserve` earlier, as when time is kept back for sending the answer.
    ///
    /// A reserve past the clock's range gives a deadline that has passed.
    #[inline]
    #[must_use]
    pub fn earlier_by(self, reserve: Duration) -> Self {
        let now = Instant::now();
        Self(self.0.checked_sub(reserve).unwrap_or(self.0.min(now)))
    }

    /// This deadline moved `limit` later; about 30 years later where the clock's range ends.
    #[inline]
    #[must_use]
    pub fn later_by(self, limit: Duration) -> Self {
        let far = || self.0.checked_add(FAR_FUTURE);
        Self(
            self.0
                .checked_add(limit.min(FAR_FUTURE))
                .or_else(far)
                .unwrap_or(self.0),
        )
    }
}

impl From<Instant> for Deadline {
    fn from(instant: Instant) -> Self {
        Self(instant)
    }
}

/// As far from now on tokio's clock as `instant` is on the system's: the two part when time is
/// paused. An instant that has passed becomes now.
#[expect(
    clippy::disallowed_types,
    reason = "what callers of `std` hold is converted here, and nowhere else"
)]
impl From<std::time::Instant> for Deadline {
    fn from(instant: std::time::Instant) -> Self {
        Self::within(instant.saturating_duration_since(std::time::Instant::now()))
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Deadline(in {:?})", self.remaining())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn any_duration_is_a_deadline() {
        let now = Instant::now();
        for limit in [Duration::ZERO, Duration::from_secs(1), Duration::MAX] {
            let deadline = Deadline::within(limit);
            assert_eq!(deadline.remaining_at(now), limit.min(FAR_FUTURE));
        }
        assert!(Deadline::within(Duration::ZERO).is_past());
        assert!(
            Deadline::within(Duration::from_secs(1))
                .earlier_by(Duration::MAX)
                .is_past()
        );
        let twice = Deadline::within(Duration::MAX).later_by(Duration::MAX);
        assert!(!twice.is_past());
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_past_exactly_at_its_instant() {
        let deadline = Deadline::within(Duration::from_millis(5));
        tokio::time::advance(Duration::from_micros(4_999)).await;
        assert!(!deadline.is_past());
        tokio::time::advance(Duration::from_micros(1)).await;
        assert!(deadline.is_past());
        assert_eq!(deadline.remaining(), Duration::ZERO);
    }
}
