//! How do I serve a DSPy program over HTTP?
//!
//! Run: `cargo run --release --example axum_server`, and then
//!
//! ```sh
//! curl localhost:8080/qa --json '{"question": "Why is the sky blue?"}' -H 'x-request-timeout: 5'
//! ```
//!
//! The answer is JSON; what the program takes and gives is at `/openapi.json`. SIGTERM ends the server.
//! It talks to a scripted LM on loopback. For a real one, give `Lm` its model and key instead. A service
//! to copy, with a configuration and tests, is `examples/app`.

use std::{error::Error, time::Duration};

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_dspy::{
    DspyServiceBuilderExt, Host, InboundLayer, Lm,
    inbound::axum::{Programs, liveness},
    server::serve,
    testing::scripted_lm::{Reply, ScriptedLm},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().init(); // the first run tells how it makes the venv
    let server = ScriptedLm::start().await?;
    server.script("small", Reply::answer("Rayleigh scattering"));

    let host = Host::embedded().create_venv(".venv").start().await?;
    let lm = Lm::new("openai/small").base_url(server.base_url());
    let qa = host
        .load("question -> answer")
        .lm(lm)
        .max_in_flight(64)
        .await?;

    let schema = qa.schema().clone();
    let qa = ServiceBuilder::new()
        .deadline(Duration::from_secs(10))
        .retries(2)
        .attempt_timeout(Duration::from_secs(4))
        .service(qa);

    // Each program is a POST route, and a client that hangs up cancels its call. What programs
    // take, give and fail with is described by /openapi.json.
    let app: Router = Programs::new("questions", env!("CARGO_PKG_VERSION"))
        .program("/qa", &schema, qa)
        .into_router()
        .route("/livez", get(liveness))
        .route("/readyz", get(host.readiness()))
        .layer(InboundLayer::new().max(Duration::from_secs(30)));

    // In a container: 0.0.0.0:8080.
    let address = std::env::var("ADDRESS").unwrap_or("127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    eprintln!("http://{}", listener.local_addr()?);
    // Until SIGTERM or Ctrl-C. Not ready from then on; what is in flight has 20 s to end, and when it
    // is cancelled 2 s to clean up. Then connections are closed and the host is stopped. Behind a load
    // balancer, add `.with_delay(Duration::from_secs(5))`: it has to see first that this is not ready.
    let report = serve(listener, app, host.shutdown(Duration::from_secs(20))).await?;
    eprintln!("{report}");
    Ok(())
}
