//! What one attempt teaches a [`Latency`].
//!
//! An attempt that was stopped took longer than it ran, nobody knows how much. To leave all of them
//! out would be wrong: where the slow ones are stopped, only quick ones are seen, the percentile
//! sinks, still more are stopped, and so on. But an attempt that had outlived the percentile in
//! question lies above it, however long it would have taken; and a percentile asks of what lies above
//! it no more than that. So such an attempt counts with the time it had. One that was stopped
//! earlier says nothing about the percentile and is left out.
//!
//! It follows that percentiles above the one in question may come out too short, but not that one:
//! were it too short, more attempts than its share would outlive it and count with more than it.

use std::time::Duration;

use tokio::time::Instant;

use super::Latency;
use crate::error::ErrorKind;

/// Measures one attempt; dropped while it runs, it takes the attempt to have been stopped.
#[derive(Debug)]
pub(in crate::layers) struct Stopwatch {
    latency: Option<Latency>,
    started: Option<Instant>,
    /// From when on an attempt that is stopped counts.
    floor: Option<Duration>,
}

impl Stopwatch {
    /// One that has not been started; an attempt that is stopped after `floor` counts.
    pub(in crate::layers) const fn new(latency: Option<Latency>, floor: Option<Duration>) -> Self {
        Self {
            latency,
            started: None,
            floor,
        }
    }

    pub(in crate::layers) const fn start(&mut self, at: Instant) {
        self.started = Some(at);
    }

    pub(in crate::layers) const fn started(&self) -> Option<Instant> {
        self.started
    }

    /// The attempt has answered.
    pub(in crate::layers) fn answered(&mut self) {
        if let Some(latency) = self.latency.take()
            && let Some(started) = self.started
        {
            latency.record(started.elapsed());
        }
    }

    /// The attempt has failed. One that ran out of time was stopped; how long another sort of
    /// failure took says nothing about answers.
    pub(in crate::layers) fn failed(&mut self, kind: ErrorKind) {
        if matches!(kind, ErrorKind::Elapsed | ErrorKind::Deadline) {
            self.stopped();
        } else {
            self.void();
        }
    }

    /// The attempt teaches nothing.
    pub(in crate::layers) fn void(&mut self) {
        self.latency = None;
    }

    /// The attempt was stopped.
    pub(in crate::layers) fn stopped(&mut self) {
        if let Some(latency) = self.latency.take()
            && let Some(started) = self.started
            && let Some(floor) = self.floor
            && let took = started.elapsed()
            && took >= floor
        {
            latency.record(took);
        }
    }
}

impl Drop for Stopwatch {
    fn drop(&mut self) {
        self.stopped();
    }
}
