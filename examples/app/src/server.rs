//! The host, the program and the routes together.

use std::time::Duration;

use axum::routing::get;
use tokio::net::TcpListener;
use tower::BoxError;
use tower_dspy::{
    Host, Tracker,
    doctor::Doctor,
    inbound::axum::{PrometheusMetrics, liveness},
    metrics::Gauges,
    page::DebugPage,
};

use crate::{config::Config, qa::Qa, routes};

/// The class `Program` in `programs/qa.py`.
pub const PROGRAM: &str = "programs.qa:Program";
/// How long calls may go on after SIGTERM.
const DRAIN: Duration = Duration::from_secs(20);

/// Where the program runs.
#[cfg(not(feature = "embedded"))]
pub fn host(config: &Config) -> tower_dspy::Workers {
    Host::workers(config.workers).create_venv(".venv")
}

/// Where the program runs.
#[cfg(feature = "embedded")]
pub fn host(_: &Config) -> tower_dspy::host::Embedded {
    Host::embedded().create_venv(".venv")
}

/// Serves until SIGTERM or Ctrl-C.
pub async fn serve(config: Config) -> Result<(), BoxError> {
    let tracker = Tracker::new();
    let stack = config.stack.layer()?.with_tracker(tracker.clone());
    let host = host(&config).start().await?;
    let program = host
        .load(PROGRAM)
        .lm(config.lm.lm())
        .max_in_flight(config.max_in_flight)
        .await?;
    let gauges = Gauges::new().observe_host(&host);
    let qa = Qa::new(program.clone(), program.streaming(), stack);

    let mut app = routes::router(qa)
        .route("/livez", get(liveness))
        .route("/readyz", get(host.readiness()))
        .merge(PrometheusMetrics::install()?.into_router(gauges));
    if let Some(path) = &config.debug_page {
        app = app.nest(path, DebugPage::new(tracker).host(&host).into_router());
    }
    let listener = TcpListener::bind(&config.address).await?;
    tracing::info!("http://{}", listener.local_addr()?);
    let report = tower_dspy::server::serve(listener, app, host.shutdown(DRAIN)).await?;
    tracing::info!("{report}");
    Ok(())
}

/// Checks the set-up and loads the program, without a request to the LM.
pub fn doctor(config: &Config) -> Doctor {
    let doctor = Doctor::new().program(PROGRAM, config.lm.lm());
    #[cfg(feature = "embedded")]
    return doctor.embedded(host(config));
    #[cfg(not(feature = "embedded"))]
    doctor.workers(host(config))
}
