//! A server's end over real sockets: what drains, what is cancelled, and what is cut.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tower_dspy::{
    CallContext, Cancel, Cause, InboundLayer, Shutdown,
    inbound::axum::{GracefulShutdown, ServeReport, liveness, predict, readiness, serve},
    testing::{MockDspy, mock::Reply},
};

use super::support::{SOON, secs};

/// Longer than any test: what has to wait for it would be late.
const LONG: Duration = secs(3600);
const SHORT: Duration = Duration::from_millis(50);

struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<ServeReport>,
}

impl Server {
    async fn start(app: Router, drain: Duration, grace: Duration) -> Self {
        Self::with(Shutdown::new(), app, drain, grace).await
    }

    async fn with(shutdown: Shutdown, app: Router, drain: Duration, grace: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let until = GracefulShutdown::new(shutdown, drain)
            .grace(grace)
            .on(async move { drop(stopped.await) });
        let served = tokio::spawn(async move { serve(listener, app, until).await.unwrap() });
        Self {
            address,
            stop: Some(stop),
            served,
        }
    }

    fn stop(&mut self) {
        drop(self.stop.take());
    }

    async fn report(self) -> ServeReport {
        let served = tokio::time::timeout(SOON, self.served).await;
        served.expect("the server did not end").unwrap()
    }

    async fn send(&self, bytes: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.address).await.unwrap();
        client.write_all(bytes.as_bytes()).await.unwrap();
        client
    }

    async fn ask(&self) -> TcpStream {
        self.send(
            "POST /qa HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n\
             content-length: 15\r\n\r\n{\"question\":\"\"}",
        )
        .await
    }
}

/// All that comes until the server closes.
async fn rest(mut client: TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(SOON, client.read_to_end(&mut bytes)).await;
    // A connection that is cut may be reset.
    let _ = read.expect("the server did not close");
    String::from_utf8(bytes).unwrap()
}

/// What comes until `end` has.
async fn until(client: &mut TcpStream, end: &str) -> String {
    let mut seen = String::new();
    while !seen.ends_with(end) {
        let byte = tokio::time::timeout(SOON, client.read_u8()).await;
        seen.push(char::from(byte.expect("more was to come").unwrap()));
    }
    seen
}

fn program(mock: &MockDspy) -> Router {
    Router::new()
        .route("/qa", predict(mock.clone()))
        .route("/livez", get(liveness))
        .layer(InboundLayer::new())
}

async fn in_flight(mock: &MockDspy, calls: usize) {
    let begun = async {
        while mock.in_flight() != calls {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, begun)
        .await
        .expect("no call began");
}

#[tokio::test]
async fn what_ends_in_the_drain_is_answered_and_idle_connections_hold_up_nothing() {
    let answer = Reply::answer(json!({"answer": "blue"})).after(Duration::from_millis(300));
    let mock = MockDspy::new([answer]);
    let mut server = Server::start(program(&mock), LONG, LONG).await;
    let mut idle = server.send("GET /livez HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert!(
        until(&mut idle, "\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 200")
    );
    let silent = server.send("").await;
    let asked = server.ask().await;
    in_flight(&mock, 1).await;
    server.stop();

    assert!(rest(asked).await.contains("blue"));
    assert_eq!(rest(idle).await, "");
    assert_eq!(rest(silent).await, "");
    let report = server.report().await;
    assert_eq!(report.requests.accepted, 2);
    assert_eq!(report.requests.completed, 2);
    assert_eq!(report.connections_cut, 0);
    assert!(report.is_clean());
}

#[tokio::test]
async fn what_is_left_at_the_end_of_the_drain_is_cancelled_and_told_so() {
    let mock = MockDspy::new([Reply::hang()]);
    let mut server = Server::start(program(&mock), SHORT, LONG).await;
    let address = server.address;
    let asked = server.ask().await;
    in_flight(&mock, 1).await;
    server.stop();

    let answer = rest(asked).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("\"kind\":\"shutting_down\""), "{answer}");
    let report = server.report().await;
    assert_eq!(mock.stopped(), [Cause::Shutdown]);
    assert_eq!(
        (report.requests.accepted, report.requests.cancelled),
        (1, 1)
    );
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_body_that_comes_slowly_is_not_waited_for() {
    let mock = MockDspy::new([Reply::hang()]);
    let app = program(&mock);
    let shutdown = Shutdown::new();
    let mut server = Server::with(shutdown.clone(), app, SHORT, SHORT).await;
    let half = "POST /qa HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n\
                content-length: 100\r\n\r\n{";
    let slow = server.send(half).await;
    while shutdown.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    let head = server.send("POST /qa HT").await;
    server.stop();

    let report = server.report().await;
    assert_eq!(
        (report.requests.accepted, report.requests.cancelled),
        (1, 1)
    );
    assert!(mock.calls().is_empty());
    rest(slow).await;
    rest(head).await;
}

#[tokio::test]
async fn a_streamed_answer_is_cancelled_and_then_its_connection_is_cut() {
    let (tell, mut told) = mpsc::unbounded_channel::<Cancel>();
    let app = Router::new()
        .route(
            "/drip",
            get(|context: CallContext| async move {
                let _ = tell.send(context.cancel);
                let first = stream::once(async { Ok::<_, std::io::Error>(Bytes::from("one")) });
                Body::from_stream(first.chain(stream::pending()))
            }),
        )
        .layer(InboundLayer::new());
    let mut server = Server::start(app, SHORT, SHORT).await;
    let mut client = server.send("GET /drip HTTP/1.1\r\nhost: h\r\n\r\n").await;
    until(&mut client, "one\r\n").await;
    let call = told.recv().await.unwrap();
    assert!(!call.is_cancelled());
    server.stop();

    let report = server.report().await;
    assert_eq!(report.requests.completed, 1);
    assert_eq!(report.connections_cut, 1);
    assert!(!report.is_clean());
    assert!(report.to_string().ends_with("; 1 connections cut"));
    assert_eq!(call.cause(), Some(Cause::Shutdown));
    rest(client).await;
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_its_call_as_gone() {
    let mock = MockDspy::new([Reply::hang()]);
    let mut server = Server::start(program(&mock), LONG, LONG).await;
    let asked = server.ask().await;
    in_flight(&mock, 1).await;
    drop(asked);
    in_flight(&mock, 0).await;
    assert_eq!(mock.stopped(), [Cause::ClientGone]);
    server.stop();
    assert_eq!(server.report().await.requests.cancelled, 1);
}

#[tokio::test]
async fn a_server_that_is_dropped_closes_its_connections() {
    let mock = MockDspy::new([Reply::hang()]);
    let server = Server::start(program(&mock), LONG, LONG).await;
    let asked = server.ask().await;
    in_flight(&mock, 1).await;
    server.served.abort();
    rest(asked).await;
    in_flight(&mock, 0).await;
    assert_eq!(mock.stopped(), [Cause::Shutdown]);
}

#[tokio::test]
async fn statuses_and_the_peer_s_address_are_those_of_axum_s_own_server() {
    let shutdown = Shutdown::new();
    let accepting = shutdown.clone();
    let whence = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() };
    let fails = || async { axum::http::StatusCode::BAD_GATEWAY };
    let app = Router::new()
        .route("/whence", get(whence))
        .route("/fails", post(fails))
        .route("/readyz", readiness(move || accepting.is_accepting()));
    let mut server = Server::with(shutdown, app, LONG, LONG).await;
    let url = |path: &str| format!("http://{}{path}", server.address);
    let client = reqwest::Client::new();
    let peer = client.get(url("/whence")).send().await.unwrap();
    let peer: SocketAddr = peer.text().await.unwrap().parse().unwrap();
    assert!(peer.ip().is_loopback());
    let failed = client.post(url("/fails")).send().await.unwrap();
    assert_eq!(failed.status().as_u16(), 502);
    let ready = client.get(url("/readyz")).send().await.unwrap();
    assert_eq!(ready.status().as_u16(), 200);
    server.stop();
    let report = server.report().await.requests;
    assert_eq!((report.completed, report.failed), (2, 1));
}
