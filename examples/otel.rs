//! How do I see a call in Jaeger, Tempo or Langfuse, from the wire through Python to the LM?
//!
//! Run a collector, such as Jaeger, then this, and call it:
//!
//! ```sh
//! docker run -p 4317:4317 -p 16686:16686 jaegertracing/jaeger
//! cargo run --release --example otel
//! curl localhost:8080/qa --json '{"question": "Why is the sky blue?"}' \
//!     -H 'traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
//! ```
//!
//! The trace 4bf92f35.. at <http://localhost:16686> has the request, two attempts and their LM calls: the
//! first one is refused. Spans are exported by OTLP over gRPC, to `OTEL_EXPORTER_OTLP_ENDPOINT` or to
//! `http://localhost:4317`. With OpenTelemetry in the program's venv, as by
//! `pip install openinference-instrumentation-dspy opentelemetry-exporter-otlp-proto-http`, the spans
//! that the program exports are part of the same trace.
//!
//! It talks to a scripted LM on loopback. For a real one, give `Lm` its model and key instead.

use std::{error::Error, time::Duration};

use axum::Router;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_dspy::{
    DspyServiceBuilderExt, Host, InboundLayer, Lm, Tracker,
    inbound::axum::predict,
    server::serve,
    testing::scripted_lm::{Reply, ScriptedLm},
};
use tracing::Level;
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// Exports the spans of `tower_dspy`. Others, such as your own, are let through by their targets.
fn export_spans() -> Result<SdkTracerProvider, Box<dyn Error>> {
    let exporter = SpanExporter::builder().with_tonic().build()?;
    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder().with_service_name("qa").build())
        .with_batch_exporter(exporter)
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("qa"))
        .with_location(false)
        .with_threads(false)
        // Not the exporter's own ones: they would never end.
        .with_filter(Targets::new().with_target("tower_dspy", Level::INFO));
    let log = tracing_subscriber::fmt::layer().with_filter(LevelFilter::INFO);
    tracing_subscriber::registry().with(layer).with(log).init();
    Ok(provider)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let provider = export_spans()?;
    let server = ScriptedLm::start().await?;
    server.script("small", [Reply::status(503), Reply::answer("Rayleigh")]);

    let host = Host::embedded().create_venv(".venv").start().await?;
    let lm = Lm::new("openai/small").base_url(server.base_url());
    let qa = host.load("question -> answer").lm(lm).await?;

    // In the trace: `tower_dspy.call`, in it an `invoke_workflow` of each attempt, and in these `chat`.
    let qa = ServiceBuilder::new()
        .tracked(Tracker::new())
        .deadline(Duration::from_secs(10))
        .retries(2)
        .attempt_timeout(Duration::from_secs(4))
        .service(qa);
    let app: Router = Router::new()
        .route("/qa", predict(qa))
        .layer(InboundLayer::new().max(Duration::from_secs(30)));

    let address = std::env::var("ADDRESS").unwrap_or("127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    eprintln!("http://{}", listener.local_addr()?);
    let report = serve(listener, app, host.shutdown(Duration::from_secs(20))).await?;
    eprintln!("{report}");
    // What is not exported yet. It blocks.
    tokio::task::spawn_blocking(move || provider.shutdown()).await??;
    Ok(())
}
