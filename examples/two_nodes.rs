//! How do I run a program on two nodes, and restart both under load without an error?
//!
//! Run: `cargo run --release --example two_nodes`, or `cargo test --example two_nodes`
//!
//! The nodes are servers in this process, with a mock for the program; `grpc_server` is one with DSPy.
//! A restart goes SIGTERM's way: the health says `NOT_SERVING`, and new calls go to the other node; the
//! connections get a `GOAWAY`, what is in flight is answered, and another server takes its place.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::load::{CompleteOnResponse, PeakEwmaDiscover};
use tower::{BoxError, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower::{balance::p2c::Balance, buffer::Buffer, discover::Change};
use tower_dspy::outbound::tonic::{ProgramClient, never_began};
use tower_dspy::testing::mock::{MockDspy, Reply};
use tower_dspy::{DspyServiceBuilderExt, ErrorKind, RetryLayer, Shutdown};
use tower_dspy::{InboundLayer, PredictRequest, Prediction};
use tower_dspy::{
    inbound::tonic::{Programs, health},
    server::{GracefulShutdown, ServeReport, serve},
};

/// Where a node is, what ends it, and its end.
struct Node(SocketAddr, CancellationToken, End);
type End = JoinHandle<std::io::Result<ServeReport>>;

/// Starts a node, which serves for `delay` after its health has said that it ends.
async fn start(address: SocketAddr, delay: Duration) -> Result<Node, BoxError> {
    let calls = AtomicUsize::new(0);
    let program = MockDspy::from_fn(move |_| {
        let slow = calls.fetch_add(1, Relaxed).is_multiple_of(50); // now and then an answer takes long
        Reply::answer("blue").after(Duration::from_millis(if slow { 300 } else { 10 }))
    });
    let shutdown = Shutdown::new();
    let app = Routes::new(Programs::new().program("qa", program).into_service())
        .add_service(health(&shutdown, || true))
        .into_axum_router()
        .layer(InboundLayer::new().max(Duration::from_secs(30)));
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    let until = GracefulShutdown::new(shutdown, Duration::from_secs(20))
        .with_delay(delay) // for those who watch the health
        .with_signal(stop.clone().cancelled_owned());
    let served = tokio::spawn(serve(listener, app, until).into_future());
    Ok(Node(address, stop, served))
}

type Found = Result<Change<SocketAddr, ProgramClient<Channel>>, BoxError>;

/// Has the balancer know a node for as long as it says that it serves.
async fn watch(node: SocketAddr, found: mpsc::UnboundedSender<Found>) -> Result<(), BoxError> {
    let channel = Endpoint::from_shared(format!("http://{node}"))?.connect_lazy();
    let client = ProgramClient::new("qa", channel.clone());
    let mut health = HealthClient::new(channel);
    loop {
        let states = health.watch(HealthCheckRequest::default()).await;
        if let Ok(mut states) = states.map(tonic::Response::into_inner) {
            while let Ok(Some(state)) = states.message().await {
                found.send(Ok(match state.status() {
                    ServingStatus::Serving => Change::Insert(node, client.clone()),
                    _ => Change::Remove(node),
                }))?;
            }
        }
        found.send(Ok(Change::Remove(node)))?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One service over all nodes, which tries again elsewhere what surely never began.
fn client(nodes: [SocketAddr; 2]) -> BoxCloneSyncService<PredictRequest, Prediction, BoxError> {
    let (found, changes) = mpsc::unbounded_channel();
    for node in nodes {
        tokio::spawn(watch(node, found.clone()));
    }
    let (rtt, decay) = (Duration::from_millis(20), Duration::from_secs(10));
    let changes = UnboundedReceiverStream::new(changes);
    let by_load = PeakEwmaDiscover::new(changes, rtt, decay, CompleteOnResponse::default());
    let client = ServiceBuilder::new()
        .deadline(Duration::from_secs(10)) // what is left of it goes to the node
        .layer(
            RetryLayer::new(3)
                .on_kinds([ErrorKind::Lost])
                .classify(never_began::<BoxError>),
        )
        .hedge_after(Duration::from_millis(100)) // by the other node: it has the lower load
        .service(Buffer::new(Balance::new(by_load), 256));
    BoxCloneSyncService::new(client)
}

#[derive(Debug, Default)]
struct Load {
    calls: AtomicUsize,
    errors: AtomicUsize,
    restarts: AtomicUsize,
}

/// Restarts two nodes, one after the other, under load; returns how many calls failed.
pub async fn rolling_restart_errors(requests: usize, delay: Duration) -> Result<usize, BoxError> {
    let any = "127.0.0.1:0".parse()?;
    let mut nodes = [start(any, delay).await?, start(any, delay).await?];
    let client = client([nodes[0].0, nodes[1].0]);
    let load = Arc::new(Load::default());
    let mut callers = JoinSet::new();
    for _ in 0..16 {
        let (client, load) = (client.clone(), load.clone());
        callers.spawn(async move {
            while load.calls.load(Relaxed) < requests || load.restarts.load(Relaxed) < 2 {
                let question = PredictRequest::new(json!({"question": "Why is the sky blue?"}));
                if let Err(error) = client.clone().oneshot(question).await {
                    eprintln!("{error}");
                    load.errors.fetch_add(1, Relaxed);
                }
                load.calls.fetch_add(1, Relaxed);
            }
        });
    }
    for (n, node) in nodes.iter_mut().enumerate() {
        while load.calls.load(Relaxed) < requests * (n + 1) / 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let Node(address, stop, served) = node;
        stop.cancel();
        println!("{address} ended: {}", served.await??);
        *node = start(*address, delay).await?;
        load.restarts.fetch_add(1, Relaxed);
    }
    callers.join_all().await;
    Ok(load.errors.load(Relaxed))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Twice the time in which the callers learn of it, on a machine that is not busy.
    let delay = Duration::from_millis(500);
    println!("{} errors", rolling_restart_errors(2_000, delay).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_call() {
    // Who watches the health of a node may read it late on a busy machine.
    let delay = Duration::from_secs(5);
    assert_eq!(rolling_restart_errors(500, delay).await.unwrap(), 0);
}
