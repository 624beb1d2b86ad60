//! A program as a gRPC service, and its client, over real sockets.

mod calls;
mod cut_streams;
mod ends;
mod errors;
mod health;
mod hostile;
mod python;
mod streams;

use std::{net::SocketAddr, time::Duration};

use axum::Router;
use serde_json::json;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{
    service::Routes,
    transport::{Channel, Endpoint},
};
use tower::ServiceExt;
use tower_dspy::{
    InboundLayer, PredictRequest, Shutdown,
    inbound::tonic::{Programs, health, reflection},
    outbound::tonic::ProgramClient,
    server::{GracefulShutdown, ServeReport, serve},
    testing::mock::MockDspy,
};

use super::support::{SOON, secs};

/// Longer than any test: what has to wait for it would be late.
const LONG: Duration = secs(3600);

struct Node {
    address: SocketAddr,
    shutdown: Shutdown,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<ServeReport>,
}

impl Node {
    /// The program `qa`, with nothing around it.
    async fn of(mock: &MockDspy) -> Self {
        Self::start(Programs::new().program("qa", mock.clone())).await
    }

    async fn start(programs: Programs) -> Self {
        Self::with(programs, LONG).await
    }

    async fn with(programs: Programs, drain: Duration) -> Self {
        let shutdown = Shutdown::new();
        let app = Routes::new(programs.into_service())
            .add_service(health(&shutdown, || true))
            .add_service(reflection().unwrap())
            .into_axum_router()
            .layer(InboundLayer::new());
        Self::serve(app, shutdown, drain).await
    }

    async fn serve(app: Router, shutdown: Shutdown, drain: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let until = GracefulShutdown::new(shutdown.clone(), drain)
            .with_grace(secs(2))
            .with_signal(async move { drop(stopped.await) });
        let served = tokio::spawn(async move { serve(listener, app, until).await.unwrap() });
        Self {
            address,
            shutdown,
            stop: Some(stop),
            served,
        }
    }

    fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address));
        endpoint.unwrap().connect_lazy()
    }

    fn client(&self) -> ProgramClient<Channel> {
        ProgramClient::new("qa", self.channel())
    }

    fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Returns once no more calls are taken.
    async fn stopping(&mut self) {
        self.stop();
        let stopping = async {
            while self.shutdown.is_accepting() {
                tokio::task::yield_now().await;
            }
        };
        let stopping = tokio::time::timeout(SOON, stopping).await;
        stopping.expect("the server went on");
    }

    async fn report(self) -> ServeReport {
        let served = tokio::time::timeout(SOON, self.served).await;
        served.expect("the server did not end").unwrap()
    }
}

fn why() -> PredictRequest {
    PredictRequest::new(json!({"question": "why"}))
}

/// A client whose connection is there, so that the limit of its next call is not used up by it.
async fn connected(node: &Node) -> ProgramClient<Channel> {
    let client = node.client();
    client.clone().oneshot(why()).await.unwrap();
    client
}

/// Waits until the mock's record looks so.
async fn seen(mock: &MockDspy, so: impl Fn(&[tower_dspy::testing::mock::CallRecord]) -> bool) {
    let seen = tokio::time::timeout(SOON, mock.wait_for(so)).await;
    seen.expect("the mock's calls never looked so");
}
