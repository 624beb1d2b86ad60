//! The metrics of calls, hosts and layers (feature `metrics`).

mod gauges;
#[cfg(feature = "_host")]
mod host_gauges;

use crate::telemetry::metric_names::{
    ALL, CALL_OVERSHOOT, CALL_SETTLE, DELAYS, GEN_AI_TOKEN_USAGE, MetricKind, SECONDS, TOKENS,
};

pub use self::gauges::Gauges;

/// Tells the recorder that is installed the unit and the description of each metric. For once, after
/// the recorder was installed.
pub fn describe() {
    crate::telemetry::metrics::describe();
}

/// The boundaries of the buckets of each histogram, by its name: those that the GenAI conventions fix,
/// and finer ones for delays that are to be milliseconds. For exporters that ask for them.
///
/// ```
/// let buckets: Vec<_> = tower_dspy::metrics::buckets().collect();
/// assert!(buckets.iter().all(|(_, boundaries)| boundaries.is_sorted()));
/// ```
pub fn buckets() -> impl Iterator<Item = (&'static str, &'static [f64])> {
    let histograms = ALL
        .iter()
        .filter(|metric| metric.kind == MetricKind::Histogram);
    histograms.map(|metric| {
        let delays = [CALL_OVERSHOOT.name, CALL_SETTLE.name];
        let boundaries: &[f64] = if metric.name == GEN_AI_TOKEN_USAGE.name {
            &TOKENS
        } else if delays.contains(&metric.name) {
            &DELAYS
        } else {
            &SECONDS
        };
        (metric.name, boundaries)
    })
}
