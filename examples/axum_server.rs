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

use axum::Router;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tower::ServiceBuilder;
use tower_dspy::{
    DspyServiceBuilderExt, Health, Host, InboundLayer, Lm, PythonEnv, Shutdown,
    inbound::axum::{predict, readiness},
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

    let shutdown = Shutdown::new();
    let qa = ServiceBuilder::new()
        .shutdown(shutdown.clone())
        .deadline(Duration::from_secs(10))
        .retries(2)
        .attempt_timeout(Duration::from_secs(4))
        .service(qa);

    let (accepting, health) = (shutdown.clone(), host.clone());
    let is_ready = move || accepting.is_accepting() && health.health() == Health::Ready;
    let app = Router::new()
        .route("/qa", predict(qa)) // a client that hangs up cancels its call
        .route("/readyz", readiness(is_ready))
        .layer(InboundLayer::new().max(Duration::from_secs(30)));

    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        terminate.recv().await;
        // Not ready from now on, and new calls are answered 503. Those in flight have 20 s to end,
        // and when they are cancelled 2 s to clean up. Then connections are closed.
        let report = shutdown
            .run(Duration::from_secs(20), Duration::from_secs(2))
            .await;
        eprintln!("{report:?}");
    };
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    eprintln!("http://{}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(stop)
        .await?;
    Ok(())
}
