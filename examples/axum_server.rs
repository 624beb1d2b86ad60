//! How do I serve a DSPy program over HTTP?
//!
//! Run: `cargo run --release --example axum_server`, and then
//!
//! ```sh
//! curl localhost:8080/qa --json '{"question": "Why is the sky blue?"}' -H 'x-request-timeout: 5'
//! ```
//!
//! It talks to a scripted LM on loopback. For a real one, give `Lm` its model and key instead.

use std::{error::Error, time::Duration};

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_dspy::{
    DspyServiceBuilderExt, Host, InboundLayer, Lm, PythonEnv,
    inbound::axum::{liveness, predict, serve},
    testing::{ScriptedLm, scripted_lm::Reply},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = ScriptedLm::start().await?;
    server.script("small", Reply::answer("Rayleigh scattering"));

    let venv = PythonEnv::create(".venv")
        .progress(|line| eprintln!("{line}"))
        .run()
        .await?;
    let host = Host::embedded().venv(venv.prefix()).start().await?;
    let lm = Lm::new("openai/small")
        .base_url(server.base_url())
        .key("none");
    let qa = host
        .load("question -> answer")
        .lm(lm)
        .max_in_flight(64)
        .await?;

    let qa = ServiceBuilder::new()
        .deadline(Duration::from_secs(10))
        .retries(2)
        .attempt_timeout(Duration::from_secs(4))
        .service(qa);

    let app = Router::new()
        .route("/qa", predict(qa)) // a client that hangs up cancels its call
        .route("/livez", get(liveness))
        .route("/readyz", get(host.readiness()))
        .layer(InboundLayer::new().max(Duration::from_secs(30)));

    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    eprintln!("http://{}", listener.local_addr()?);
    // Until SIGTERM or Ctrl-C. Not ready from then on; what is in flight has 20 s to end, and when it
    // is cancelled 2 s to clean up. Then connections are closed and the host is stopped.
    let report = serve(listener, app, host.shutdown(Duration::from_secs(20))).await?;
    eprintln!("{report}");
    Ok(())
}
