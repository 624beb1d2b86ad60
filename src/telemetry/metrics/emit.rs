//! The emission of one value, and the description of all metrics.

use std::{sync::Arc, time::Duration};

use metrics::{Label, SharedString};

use super::bounded_names::BoundedNames;
use crate::telemetry::{
    metric_names::{ALL, Metric, MetricKind},
    names::provider_name,
};

/// Programs by name or label; more are one.
static PROGRAMS: BoundedNames = BoundedNames::new(256);
/// Models, those that are asked for and those that answer; more are one. A request may name any.
static MODELS: BoundedNames = BoundedNames::new(64);
/// Models with their provider; more are one.
static LMS: BoundedNames = BoundedNames::new(64);
/// Providers; more are one.
static PROVIDERS: BoundedNames = BoundedNames::new(64);
/// Tools by name; more are one.
static TOOLS: BoundedNames = BoundedNames::new(256);

pub(crate) fn program_label(name: &str) -> Arc<str> {
    PROGRAMS.label(name)
}

pub(super) fn model_label(name: &str) -> Arc<str> {
    MODELS.label(name)
}

/// The label of an LM: its provider and model.
pub(super) fn lm_label(provider: &str, model: &str) -> Arc<str> {
    LMS.label(&format!("{provider}/{model}"))
}

/// Gives an LM that a program is loaded with labels of its own, whatever requests ask for.
#[cfg(feature = "lm")]
pub(crate) fn lm_loaded(provider: &str, model: &str) {
    MODELS.load(model);
    LMS.load(&format!("{provider}/{model}"));
    PROVIDERS.load(provider_name(provider));
}

/// The provider, by the conventions' name for it.
pub(super) fn provider_label(provider: &str) -> Arc<str> {
    PROVIDERS.label(provider_name(provider))
}

pub(super) fn tool_label(name: &str) -> Arc<str> {
    TOOLS.label(name)
}

pub(crate) fn label(key: &'static str, value: impl Into<SharedString>) -> Label {
    Label::new(key, value)
}

pub(crate) fn count(metric: &Metric, labels: Vec<Label>, n: u64) {
    metrics::counter!(metric.name, labels).increment(n);
}

pub(crate) fn set(metric: &Metric, labels: Vec<Label>, value: f64) {
    metrics::gauge!(metric.name, labels).set(value);
}

pub(super) fn record(metric: &Metric, labels: Vec<Label>, value: f64) {
    metrics::histogram!(metric.name, labels).record(value);
}

pub(super) fn record_seconds(metric: &Metric, labels: Vec<Label>, value: Duration) {
    record(metric, labels, value.as_secs_f64());
}

/// Tells the recorder that is installed the units and descriptions of all metrics.
pub(crate) fn describe() {
    for metric in ALL {
        let Metric {
            name,
            kind,
            unit,
            description,
        } = *metric;
        match kind {
            MetricKind::Counter => metrics::describe_counter!(name, unit, description),
            MetricKind::Gauge => metrics::describe_gauge!(name, unit, description),
            MetricKind::Histogram => metrics::describe_histogram!(name, unit, description),
        }
    }
}
