//! How do I put nginx or HAProxy in front of my servers?
//!
//! Run: two of these, and the proxy of your choice before them, as README.md here shows; the guide
//! `tower_dspy::proxies` explains its configuration.
//!
//! ```sh
//! ADDRESS=127.0.0.1:8081 cargo run --release --example proxies
//! ADDRESS=127.0.0.1:8082 cargo run --release --example proxies
//! ```
//!
//! One port has HTTP/1.1, HTTP/2, server-sent events and gRPC. The LM is scripted, on loopback; what it
//! does, and what became of its requests, is at `/lm`, for `.ci/proxies.py`.

mod scripted;

use std::{env, error::Error, time::Duration};

use axum::routing::get;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tower::ServiceBuilder;
use tower_dspy::{
    DspyServiceBuilderExt, Host, InboundLayer, Lm,
    inbound::{
        axum::{liveness, stream::predict_stream},
        tonic::Programs,
    },
    server::serve,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().init(); // the first run tells how it makes the venv
    let scripted = scripted::start().await?;
    let host = Host::embedded().create_venv(".venv").start().await?;
    let lm = Lm::new("openai/small").base_url(scripted.base_url());
    let qa = host
        .load("question -> answer")
        .lm(lm)
        .max_in_flight(64)
        .await?;

    let limit = Duration::from_secs(30);
    let streaming = ServiceBuilder::new()
        .deadline(limit)
        .service(qa.streaming());
    let whole = ServiceBuilder::new().deadline(limit).service(qa);

    let programs = Programs::new().program_streaming("qa", whole.clone(), streaming.clone());
    let app = Routes::new(programs.into_service())
        .add_service(host.grpc_health())
        .into_axum_router()
        .route("/qa", predict_stream(whole, streaming))
        // No call of the proxy may take longer: the limits of its waits are above this one.
        .layer(InboundLayer::new().max(limit))
        .route("/livez", get(liveness))
        .route("/readyz", get(host.readiness())) // what HAProxy asks
        .merge(scripted.into_router());

    let address = env::var("ADDRESS").unwrap_or("127.0.0.1:8081".to_owned());
    let listener = TcpListener::bind(address).await?;
    eprintln!("http://{}", listener.local_addr()?);
    // During the delay the server is not ready and still serves: HAProxy's probes notice that, and nginx
    // follows `connection: close`, before the listener is closed.
    let until = host
        .shutdown(Duration::from_secs(20))
        .with_delay(Duration::from_secs(3));
    let report = serve(listener, app, until).await?;
    eprintln!("{report}");
    Ok(())
}
