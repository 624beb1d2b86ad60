//! A server on a real socket, and clients that write their bytes by hand.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, routing::get};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};
use tower_dspy::{
    InboundLayer, Shutdown,
    inbound::axum::{liveness, predict},
    server::{GracefulShutdown, ServeReport, serve},
    testing::mock::MockDspy,
};

use super::{
    raw::ASK,
    support::{SOON, secs},
};

/// Longer than any test: what has to wait for it would be late.
pub(crate) const LONG: Duration = secs(3600);
pub(crate) const SHORT: Duration = Duration::from_millis(50);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) served: JoinHandle<ServeReport>,
}

impl Server {
    pub(crate) async fn start(app: Router, drain: Duration, grace: Duration) -> Self {
        Self::with(Shutdown::new(), app, drain, grace).await
    }

    pub(crate) async fn with(
        shutdown: Shutdown,
        app: Router,
        drain: Duration,
        grace: Duration,
    ) -> Self {
        let until = GracefulShutdown::new(shutdown, drain).with_grace(grace);
        Self::until(until, app, LONG).await
    }

    /// One that closes connections soon on which no head of a request comes.
    pub(crate) async fn impatient(app: Router, head_timeout: Duration) -> Self {
        let until = GracefulShutdown::new(Shutdown::new(), LONG);
        Self::until(until, app, head_timeout).await
    }

    /// One that closes connections soon whose clients take nothing of what is sent.
    pub(crate) async fn unread(app: Router, send_timeout: Duration) -> Self {
        let until = GracefulShutdown::new(Shutdown::new(), LONG);
        let socket = TcpSocket::new_v4().unwrap();
        // What the system keeps of unread answers; its connections have it of the listener.
        socket.set_send_buffer_size(4096).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(16).unwrap();
        Self::with_limits(listener, until, app, LONG, send_timeout)
    }

    pub(crate) async fn until(
        until: GracefulShutdown,
        app: Router,
        head_timeout: Duration,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::with_limits(listener, until, app, head_timeout, LONG)
    }

    fn with_limits(
        listener: TcpListener,
        until: GracefulShutdown,
        app: Router,
        head_timeout: Duration,
        send_timeout: Duration,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let until = until.with_signal(async move { drop(stopped.await) });
        let serving = serve(listener, app, until)
            .head_timeout(head_timeout)
            .send_timeout(send_timeout);
        let served = tokio::spawn(async move { serving.await.unwrap() });
        Self {
            address,
            stop: Some(stop),
            served,
        }
    }

    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    pub(crate) async fn report(self) -> ServeReport {
        let served = tokio::time::timeout(SOON, self.served).await;
        served.expect("the server did not end").unwrap()
    }

    pub(crate) async fn send(&self, bytes: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.address).await.unwrap();
        client.write_all(bytes.as_bytes()).await.unwrap();
        client
    }

    pub(crate) async fn ask(&self) -> TcpStream {
        self.send(ASK).await
    }
}

/// All that comes until the server closes.
pub(crate) async fn rest(mut client: TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(SOON, client.read_to_end(&mut bytes)).await;
    // A connection that is cut may be reset.
    let _ = read.expect("the server did not close");
    String::from_utf8(bytes).unwrap()
}

/// What comes until `end` has.
pub(crate) async fn until(client: &mut TcpStream, end: &str) -> String {
    let mut seen = String::new();
    while !seen.ends_with(end) {
        let byte = tokio::time::timeout(SOON, client.read_u8()).await;
        seen.push(char::from(byte.expect("more was to come").unwrap()));
    }
    seen
}

pub(crate) fn program(mock: &MockDspy) -> Router {
    Router::new()
        .route("/qa", predict(mock.clone()))
        .route("/livez", get(liveness))
        .layer(InboundLayer::new())
}

pub(crate) async fn in_flight(mock: &MockDspy, calls: usize) {
    let begun = async {
        while mock.in_flight() != calls {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, begun)
        .await
        .expect("no call began");
}
