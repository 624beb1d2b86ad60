//! How do I serve a DSPy program over gRPC?
//!
//! Run: `cargo run --release --example grpc_server`, and then the example `grpc_client`, or
//!
//! ```sh
//! grpcurl -plaintext -max-time 5 -d '{"program": "qa", "inputs": {"question": "Why?"}}' \
//!     localhost:50051 tower_dspy.v1.Predict/Predict
//! ```
//!
//! or `cargo test --example grpc_server`. It talks to a scripted LM on loopback; for a real one, give
//! `Lm` its model and key instead.

use std::{net::SocketAddr, time::Duration};

use axum::routing::get;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tower::{BoxError, ServiceBuilder};
use tower_dspy::{
    DspyServiceBuilderExt, Host, InboundLayer, Lm,
    inbound::{
        axum::liveness,
        tonic::{Programs, reflection},
    },
    server::{GracefulShutdown, serve},
    testing::scripted_lm::{Reply, ScriptedLm},
};

/// Serves until it is told to end; `end` may tell it in another way than by a signal.
async fn run(
    address: SocketAddr,
    end: impl FnOnce(SocketAddr, GracefulShutdown) -> GracefulShutdown,
) -> Result<(), BoxError> {
    let server = ScriptedLm::start().await?;
    server.script("small", Reply::answer("Rayleigh scattering"));

    let host = Host::embedded().create_venv(".venv").start().await?;
    let lm = Lm::new("openai/small").base_url(server.base_url());
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

    let app = Routes::new(Programs::new().program("qa", qa).into_service())
        .add_service(host.grpc_health()) // what the host's readiness says
        .add_service(reflection()?) // for grpcurl
        .into_axum_router()
        .route("/livez", get(liveness)) // plain HTTP goes to the same port
        .layer(InboundLayer::new().max(Duration::from_secs(30)));

    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    eprintln!("http://{address}");
    // Until SIGTERM or Ctrl-C. Not serving from then on; what is in flight has 20 s to end, and when it
    // is cancelled 2 s to clean up. Then connections are closed and the host is stopped.
    let until = end(address, host.shutdown(Duration::from_secs(20)));
    let report = serve(listener, app, until).await?;
    eprintln!("{report}");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init(); // the first run tells how it makes the venv
    run(SocketAddr::from(([127, 0, 0, 1], 50051)), |_, signals| {
        signals
    })
    .await
}

/// It answers a client, and ends.
#[tokio::test]
async fn a_client_is_answered_and_the_server_ends() -> Result<(), BoxError> {
    use serde_json::json;
    use tower::ServiceExt;
    use tower_dspy::{PredictRequest, outbound::tonic::ProgramClient};

    let (answer, answered) = tokio::sync::oneshot::channel();
    let ask = |address, until: GracefulShutdown| {
        until.with_signal(async move {
            let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"));
            let qa = ProgramClient::new("qa", channel.expect("an address").connect_lazy());
            let asked = PredictRequest::new(json!({"question": "Why is the sky blue?"}));
            let _ = answer.send(qa.oneshot(asked).await);
        })
    };
    run(SocketAddr::from(([127, 0, 0, 1], 0)), ask).await?;
    assert_eq!(answered.await??.outputs["answer"], "Rayleigh scattering");
    Ok(())
}
