//! The shutdown of a server over real sockets: the calls that drain, those that are cancelled, and
//! the connections that are closed.

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
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::mpsc};
use tower_dspy::{
    CallContext, Cancel, Cause, InboundLayer, Shutdown,
    inbound::axum::readiness,
    server::GracefulShutdown,
    testing::mock::{MockDspy, Reply},
};

use super::{
    raw::ASK,
    served::{LONG, SHORT, Server, in_flight, program, rest, until},
    support::SOON,
};

#[tokio::test]
async fn calls_that_end_in_the_drain_are_answered_and_idle_connections_delay_nothing() {
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
async fn calls_left_at_the_end_of_the_drain_are_cancelled_and_answered_503() {
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
async fn the_drain_does_not_wait_for_a_slow_request_body() {
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
    assert!(report.to_string().ends_with("; 1 connection cut"));
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
async fn statuses_and_the_peers_address_match_those_of_axums_server() {
    let shutdown = Shutdown::new();
    let ready = shutdown.clone();
    let whence = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() };
    let fails = || async { axum::http::StatusCode::BAD_GATEWAY };
    let app = Router::new()
        .route("/whence", get(whence))
        .route("/fails", post(fails))
        .route("/readyz", readiness(move || ready.is_ready()));
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

#[tokio::test]
async fn during_the_delay_the_server_is_not_ready_and_still_serves() {
    let mock = MockDspy::from_fn(|_| Reply::answer(json!({"answer": "blue"})));
    let shutdown = Shutdown::new();
    let ready = shutdown.clone();
    let app = program(&mock).route("/readyz", readiness(move || ready.is_ready()));
    let ends = GracefulShutdown::new(shutdown, LONG).with_delay(LONG);
    let mut server = Server::until(ends, app, LONG).await;
    let mut kept = server.ask().await;
    let answered = until(&mut kept, "\r\n\r\n").await;
    assert!(!answered.contains("connection: close"), "{answered}");
    server.stop();

    let probe = "GET /readyz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    let unready = async {
        while !rest(server.send(probe).await)
            .await
            .starts_with("HTTP/1.1 503")
        {}
    };
    tokio::time::timeout(SOON, unready)
        .await
        .expect("it stays ready");
    // A new connection, and one from before; both are told to come no more.
    kept.write_all(ASK.as_bytes()).await.unwrap();
    for asked in [server.ask().await, kept] {
        let answer = rest(asked).await;
        assert!(answer.contains("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    assert!(!server.served.is_finished());
    server.served.abort();
}

#[tokio::test]
async fn after_the_delay_the_listener_is_closed_and_the_drain_begins() {
    let mock = MockDspy::new([Reply::hang()]);
    let ends = GracefulShutdown::new(Shutdown::new(), SHORT).with_delay(SHORT);
    let mut server = Server::until(ends, program(&mock), LONG).await;
    let address = server.address;
    let asked = server.ask().await;
    in_flight(&mock, 1).await;
    server.stop();
    assert!(rest(asked).await.starts_with("HTTP/1.1 503"));
    assert_eq!(server.report().await.requests.cancelled, 1);
    assert!(TcpStream::connect(address).await.is_err());
}
