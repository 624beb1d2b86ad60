//! What operators see of calls: the names of metrics, and their emission.

#[cfg(feature = "metrics")]
pub(crate) mod metric_names;
pub(crate) mod metrics;
