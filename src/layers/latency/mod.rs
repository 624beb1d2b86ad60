//! [`Latency`]: how long a service takes, recorded from its answers.
//!
//! Invariants:
//! 1. Each duration goes into both histograms. The older one is asked; after each half window it is
//!    emptied and the two change places. So what is asked holds the last half to whole window, and
//!    there is never a wait for a first window to fill.
//! 2. The percentile that was asked last is remembered, and worked out again once the histogram has
//!    grown by a sixteenth or has changed places: what a call pays does not depend on how much was
//!    recorded.

mod feasibility;
mod percentile;
mod record;
mod stopwatch;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::time::Instant;

pub(super) use self::{feasibility::Feasibility, stopwatch::Stopwatch};
pub use self::{
    percentile::{OutOfRange, Percentile},
    record::{RecordLatency, RecordLatencyFuture, RecordLatencyLayer},
};

/// The longest duration that is told apart, in microseconds.
const LONGEST: u64 = 3_600_000_000;
/// Two digits: within one percent, and 13 KB a histogram.
const DIGITS: u8 = 2;

/// How long a service takes: the percentiles of what it took lately.
///
/// [`HedgeLayer`](super::HedgeLayer) fills one and goes by it, [`RecordLatencyLayer`] fills one for others,
/// [`AllotLayer`](super::AllotLayer) and [`DeadlineLayer`](super::DeadlineLayer) can be told of one.
/// Clones share what they record, and may be used from any thread.
///
/// What it answers comes from the last half to whole window, and is at most one percent too long.
/// Durations count from 1 us to 1 h; shorter ones as the one, longer ones as the other. It takes
/// 27 KB, however much it records, and nothing before the first duration.
///
/// ```
/// use std::time::Duration;
/// use tower_dspy::{Latency, Percentile};
///
/// let latency = Latency::default();
/// for n in 1..=100 {
///     latency.record(Duration::from_millis(n));
/// }
/// let p95 = latency.percentile(Percentile::P95).unwrap();
/// assert!(p95 >= Duration::from_millis(95) && p95 < Duration::from_millis(96));
/// // Not before it has seen enough.
/// assert_eq!(Latency::default().percentile(Percentile::P95), None);
/// ```
#[derive(Clone)]
pub struct Latency(Arc<LatencyWindow>);

struct LatencyWindow {
    half: Duration,
    min_samples: u64,
    state: Mutex<LatencyState>,
}

struct LatencyState {
    /// The older one, which is asked, and the younger one; none before the first duration.
    histograms: Option<[Histogram<u32>; 2]>,
    /// When the two last changed places.
    since: Instant,
    remembered: Option<RememberedPercentile>,
}

/// The percentile that was asked last.
#[derive(Clone, Copy)]
struct RememberedPercentile {
    percentile: Percentile,
    /// How many durations it was worked out from.
    samples: u64,
    value: Duration,
}

impl Latency {
    /// Learns from the last `window`: between 2 s and a day, and the nearer of the two if it is
    /// neither.
    #[must_use]
    pub fn new(window: Duration) -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        let window = window.clamp(Duration::from_secs(2), DAY);
        Self::of(window / 2, 20)
    }

    /// One that has recorded nothing yet and does not answer before `min` durations, 20 by default.
    #[must_use]
    pub fn with_min_samples(self, min: u64) -> Self {
        Self::of(self.0.half, min.max(1))
    }

    fn of(half: Duration, min_samples: u64) -> Self {
        Self(Arc::new(LatencyWindow {
            half,
            min_samples,
            state: Mutex::new(LatencyState {
                histograms: None,
                since: Instant::now(),
                remembered: None,
            }),
        }))
    }

    /// Learns that an answer took `duration`.
    pub fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(LONGEST);
        let mut state = self.0.now();
        if state.histograms.is_none() {
            // The bounds are constant and valid; were they not, nothing would be recorded.
            let histogram = Histogram::new_with_bounds(1, LONGEST, DIGITS).ok();
            state.histograms = histogram.map(|empty| [empty.clone(), empty]);
        }
        for histogram in state.histograms.iter_mut().flatten() {
            histogram.saturating_record(micros.clamp(1, LONGEST));
        }
    }

    /// The duration that the share `percentile` of the answers did not exceed; `None` while there
    /// are too few of them.
    ///
    /// It may be a little behind: the newest few, at most a seventeenth of all, may not count yet.
    #[must_use]
    pub fn percentile(&self, percentile: Percentile) -> Option<Duration> {
        let mut state = self.0.now();
        let [asked, _] = state.histograms.as_ref()?;
        let samples = asked.len();
        if samples < self.0.min_samples {
            return None;
        }
        if let Some(known) = state.remembered
            && known.percentile == percentile
            && samples <= known.samples + known.samples / 16
        {
            return Some(known.value);
        }
        let value = Duration::from_micros(asked.value_at_quantile(percentile.get()));
        state.remembered = Some(RememberedPercentile {
            percentile,
            samples,
            value,
        });
        Some(value)
    }

    /// How many durations an answer is made from now.
    #[must_use]
    pub fn samples(&self) -> u64 {
        let state = self.0.now();
        state
            .histograms
            .as_ref()
            .map_or(0, |[asked, _]| asked.len())
    }
}

/// The last 60 s.
impl Default for Latency {
    fn default() -> Self {
        Self::new(Duration::from_secs(60))
    }
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latency")
            .field("window", &(self.0.half * 2))
            .field("min_samples", &self.0.min_samples)
            .field("samples", &self.samples())
            .field("median", &self.percentile(Percentile::P50))
            .finish()
    }
}

impl LatencyWindow {
    /// The state, with what is older than the window forgotten.
    fn now(&self) -> MutexGuard<'_, LatencyState> {
        // Nothing panics while it holds the lock; counts have no broken state anyway.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let age = Instant::now().saturating_duration_since(state.since);
        let turns = u32::try_from(age.as_nanos() / self.half.as_nanos()).unwrap_or(u32::MAX);
        if turns > 0 {
            state.remembered = None;
            if let Some([asked, younger]) = &mut state.histograms {
                asked.reset();
                std::mem::swap(asked, younger);
                if turns > 1 {
                    asked.reset();
                }
            }
            // Turns keep their rhythm: what is left over of the age belongs to the next.
            state.since += self.half * turns;
        }
        state
    }
}
