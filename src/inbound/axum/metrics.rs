//! Metrics for Prometheus.

use std::{io, time::Duration};

use axum::{Router, routing::get};
use http::header::CONTENT_TYPE;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{runtime::Handle, time::interval};

use crate::metrics::{Gauges, buckets, describe};

/// How often what histograms have recorded is drained, as the exporter asks for.
const UPKEEP: Duration = Duration::from_secs(5);
/// The text format of Prometheus.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics of this process for Prometheus: an exporter, and the route that it is read by.
///
/// Names are those of [`metrics`](crate::metrics) as Prometheus has them: `_` for dots, with the unit,
/// and `_total` for counters: `tower_dspy_calls_total`, `gen_ai_client_operation_duration_seconds`.
///
/// Metrics have no id, prompt or tenant in them, but tell names of programs and models and how much
/// traffic there is: mount the route where only your Prometheus comes.
///
/// ```no_run
/// use axum::Router;
/// use tower_dspy::{Host, inbound::axum::PrometheusMetrics, metrics::Gauges};
///
/// # fn example(host: Host) -> Result<Router, Box<dyn std::error::Error>> {
/// let metrics = PrometheusMetrics::install()?;
/// let gauges = Gauges::new().observe_host(&host);
/// Ok(Router::new().merge(metrics.into_router(gauges)))
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct PrometheusMetrics {
    handle: PrometheusHandle,
}

/// The exporter was not installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// The process has a recorder: one at most takes the metrics of a process.
    #[error(
        "this process has a recorder of metrics already: install it once and share the \
         `PrometheusMetrics`, or hand over the handle of yours"
    )]
    Installed,
    /// There is no tokio runtime for the exporter's upkeep.
    #[error("metrics are to be installed within a tokio runtime, which does their upkeep")]
    NoRuntime,
    /// The exporter could not be built.
    #[error("the exporter of metrics: {0}")]
    Exporter(#[source] io::Error),
}

impl PrometheusMetrics {
    /// Installs an exporter for Prometheus as the recorder of this process, with the buckets of the
    /// GenAI conventions, and does its upkeep on this tokio runtime.
    ///
    /// # Errors
    /// If this process has a recorder already, or there is no runtime.
    pub fn install() -> Result<Self, InstallError> {
        let runtime = Handle::try_current().map_err(|_| InstallError::NoRuntime)?;
        let mut builder = PrometheusBuilder::new().with_recommended_naming(true);
        for (name, boundaries) in buckets() {
            builder = builder.set_buckets_for_metric(Matcher::Full(name.into()), boundaries)?;
        }
        let handle = builder.install_recorder()?;
        describe();
        let upkept = handle.clone();
        runtime.spawn(async move {
            let mut ticks = interval(UPKEEP);
            loop {
                ticks.tick().await;
                upkept.run_upkeep();
            }
        });
        Ok(Self { handle })
    }

    /// Takes the exporter that was installed elsewhere, which does its upkeep and has its own
    /// [buckets](crate::metrics::buckets).
    #[cfg(feature = "metrics-exporter-prometheus")]
    #[must_use]
    pub const fn from_handle(handle: PrometheusHandle) -> Self {
        Self { handle }
    }

    /// The metrics in the text format of Prometheus. The gauges are as they were last sampled.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// `GET /metrics`: samples `gauges` and answers by all metrics in the text format of Prometheus.
    pub fn into_router<T>(self, gauges: Gauges) -> Router<T>
    where
        T: Clone + Send + Sync + 'static,
    {
        let answer = move || {
            gauges.sample();
            std::future::ready(([(CONTENT_TYPE, TEXT)], self.render()))
        };
        Router::new().route("/metrics", get(answer))
    }
}

impl From<BuildError> for InstallError {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::FailedToSetGlobalRecorder(_) => Self::Installed,
            error => Self::Exporter(io::Error::other(error)),
        }
    }
}
