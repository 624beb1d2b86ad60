//! The scale of a timeline: instants to places on the x axis.

use std::time::Duration;

use super::stages::end;
use crate::{call::record::timeline::CallTimeline, page::timeline::format::length};

/// Maps the instants from the arrival to `end` to places from `left` to `right`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) end: Duration,
    pub(super) left: f64,
    pub(super) right: f64,
}

/// An instant on the axis.
#[derive(Clone, Debug)]
pub(super) struct Tick {
    pub(super) x: f64,
    pub(super) label: String,
}

impl Scale {
    /// A scale to `end`, and to ten microseconds at least.
    pub(super) fn new(end: Duration, left: f64, right: f64) -> Self {
        Self {
            end: end.max(Duration::from_micros(10)),
            left,
            right,
        }
    }

    /// The place of an instant; that of one past the end is the end's.
    pub(super) fn x(&self, at: Duration) -> f64 {
        let share = at.as_secs_f64() / self.end.as_secs_f64();
        rounded(self.left + share.clamp(0.0, 1.0) * (self.right - self.left))
    }

    pub(super) fn has(&self, at: Duration) -> bool {
        at <= self.end
    }

    /// Round instants from the arrival on: at most `most` and the first.
    pub(super) fn ticks(&self, most: u32) -> Vec<Tick> {
        let step = step(self.end, most);
        let ticks = (0..=most).map(|number| step.saturating_mul(number));
        ticks
            .take_while(|at| self.has(*at))
            .map(|at| Tick {
                x: self.x(at),
                label: if at.is_zero() {
                    "0".to_owned()
                } else {
                    length(at)
                },
            })
            .collect()
    }
}

/// The nearest quarter: it is exact, and short when written.
pub(super) fn rounded(place: f64) -> f64 {
    (place * 4.0).round() / 4.0
}

/// The least round step of which `end` has at most `most`.
fn step(end: Duration, most: u32) -> Duration {
    let decimal = (0..8).flat_map(|power| {
        let unit = Duration::from_micros(10_u64.pow(power));
        [unit, unit * 2, unit * 5]
    });
    let decimal = decimal.filter(|step| *step < Duration::from_secs(30));
    let secs = [30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, 43_200];
    let days = (0..32).map(|power| 86_400 << power);
    let secs = secs.into_iter().chain(days).map(Duration::from_secs);
    let mut steps = decimal.chain(secs);
    let fits = |step: &Duration| step.saturating_mul(most) >= end;
    steps.find(fits).unwrap_or(end)
}

/// Until when the picture of a call is to go: to the end of all its work, and to the deadline if that
/// is not far beyond.
pub(super) fn shown_until(call: &CallTimeline) -> Duration {
    let end = end(call);
    let share = if call.answered.is_some() { 1.6 } else { 4.0 };
    let near = end.as_secs_f64() * share;
    let deadline = call.deadline;
    let deadline = deadline.filter(|deadline| deadline.as_secs_f64() <= near);
    deadline.map_or(end, |deadline| deadline.max(end))
}
