//! How do I call a program on another server, with a deadline, retries and a fallback?
//!
//! Run: `cargo run --example grpc_server` beside it, and then
//! `cargo run --example grpc_client -- "Why is the sky blue?"`; or `cargo test --example grpc_client`
//!
//! A program on a server is a service as one in this process is, and takes the same layers. A call
//! that is given up here is stopped there.

use std::time::Duration;

use serde_json::json;
use tonic::transport::{Channel, Endpoint};
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_dspy::{
    DspyServiceBuilderExt, Error, ErrorKind, FallbackLayer, PredictRequest, Prediction, RetryLayer,
    outbound::tonic::{ProgramClient, never_began},
};

/// Asks the program `qa` behind `channel`.
async fn ask(channel: Channel, question: &str) -> Result<Prediction, Error> {
    // What the server says is worth another try it has tried itself; what never began costs nobody
    // anything.
    let elsewhere = RetryLayer::new(2)
        .on_kinds([ErrorKind::Lost])
        .classify(never_began::<Error>);
    let apology = [("answer".to_owned(), "Ask me later.".into())];
    let apology = Prediction::new(apology.into_iter().collect());
    let qa = ServiceBuilder::new()
        .deadline(Duration::from_secs(10))
        .layer(FallbackLayer::value(apology).on_kinds([ErrorKind::Lost, ErrorKind::Deadline]))
        .layer(elsewhere)
        // The server gives up 100 ms before this side does, and says what it spent.
        .service(ProgramClient::new("qa", channel).with_reserve(Duration::from_millis(100)));
    qa.oneshot(PredictRequest::new(json!({"question": question})))
        .await
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let question = std::env::args().nth(1);
    let question = question.as_deref().unwrap_or("Why is the sky blue?");
    let channel = Endpoint::from_static("http://127.0.0.1:50051").connect_lazy();
    let answer = ask(channel, question).await?;
    println!("{}", answer.outputs["answer"]);
    println!("{} tokens", answer.usage.total_tokens);
    Ok(())
}

/// Against a server of this process, whose program is a mock.
#[tokio::test]
async fn it_is_answered_by_the_server_or_by_the_fallback() -> Result<(), BoxError> {
    use tower_dspy::{
        InboundLayer, Shutdown,
        inbound::tonic::Programs,
        server::{GracefulShutdown, serve},
        testing::mock::{MockDspy, Reply},
    };

    let mock = MockDspy::new([Reply::answer("Rayleigh scattering")]);
    let app = tonic::service::Routes::new(Programs::new().program("qa", mock).into_service())
        .into_axum_router()
        .layer(InboundLayer::new());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let until = GracefulShutdown::new(Shutdown::new(), Duration::from_secs(20))
        .with_signal(async move { drop(stopped.await) });
    let served = tokio::spawn(serve(listener, app, until).into_future());
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect_lazy();

    let answer = ask(channel.clone(), "Why?").await?;
    assert_eq!(answer.outputs["answer"], "Rayleigh scattering");
    drop(stop);
    served.await??;
    let answer = ask(channel, "Why?").await?;
    assert_eq!(answer.outputs["answer"], "Ask me later.");
    Ok(())
}
