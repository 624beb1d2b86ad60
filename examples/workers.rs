//! How do I run programs in processes of their own, that can be killed?
//!
//! Run: `cargo run --release --example workers`, and then
//!
//! ```sh
//! curl localhost:8080/qa --json '{"question": "Why is the sky blue?"}'
//! curl localhost:8080/stuck --json '{}'   # 504, and its worker is killed and replaced
//! curl localhost:8080/workers
//! ```
//!
//! With `--no-default-features` it links no libpython: the workers run the Python of `.venv`, any
//! from 3.11 on. `ADDRESS` is another address to listen at.
//!
//! It talks to a scripted LM on loopback. With `LM_MODEL`, such as `openai/gpt-4o-mini`, it asks that
//! one, with the key in `LM_KEY`.

use std::{env, error::Error, time::Duration};

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_dspy::{
    DspyServiceBuilderExt, ErrorKind, Host, InboundLayer, Lm, RetryLayer,
    inbound::axum::{liveness, predict},
    server::serve,
    testing::scripted_lm::{Reply, ScriptedLm},
};

/// What no exception ends: it keeps the GIL in C code, for an hour.
const STUCK: &str = "
import ctypes

async def stuck():
    ctypes.PyDLL(None).sleep(3600)
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().init(); // the first run tells how it makes the venv
    let scripted = ScriptedLm::start().await?;
    scripted.script("small", Reply::answer("Rayleigh scattering"));
    let lm = match env::var("LM_MODEL") {
        Ok(model) => Lm::new(model).key_env("LM_KEY"),
        Err(_) => Lm::new("openai/small").base_url(scripted.base_url()),
    };

    // As many programs compute at once as there are workers.
    let host = Host::workers(2)
        .kill_after(Duration::from_millis(500)) // what was told to stop, and holds its worker up
        .retire_after(Duration::from_secs(10)) // what was told to stop, and lets others go on
        .create_venv(".venv")
        .start()
        .await?;

    let qa = host.load("question -> answer").lm(lm).max_in_flight(64);
    let qa = ServiceBuilder::new()
        .deadline(Duration::from_secs(10))
        // The default, and calls whose worker was lost with another call. Not for a program that may
        // itself be what ends workers.
        .layer(RetryLayer::new(2).on_kinds([
            ErrorKind::Elapsed,
            ErrorKind::LmUnavailable,
            ErrorKind::Lost,
        ]))
        .service(qa.await?);
    let stuck = ServiceBuilder::new()
        .deadline(Duration::from_secs(1))
        .service(host.load_source(STUCK, "stuck").await?);

    let processes = host.clone();
    let app = Router::new()
        .route("/qa", predict(qa))
        .route("/stuck", predict(stuck))
        .route(
            "/workers",
            get(async move || format!("{:#?}\n", processes.worker_stats())),
        )
        .route("/livez", get(liveness))
        .route("/readyz", get(host.readiness()))
        .layer(InboundLayer::new().max(Duration::from_secs(30)));

    let address = env::var("ADDRESS").unwrap_or_else(|_| "127.0.0.1:8080".into());
    let listener = TcpListener::bind(address).await?;
    eprintln!("http://{}", listener.local_addr()?);
    let report = serve(listener, app, host.shutdown(Duration::from_secs(20))).await?;
    eprintln!("{report}");
    Ok(())
}
