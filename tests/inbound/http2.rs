//! HTTP/2 with prior knowledge: requests beside each other, resets, and GOAWAY at the end.

use std::net::SocketAddr;

use axum::Router;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::{
    net::TcpStream,
    runtime::Runtime,
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tower::service_fn;
use tower_dspy::{
    Cause, Error, InboundLayer, PredictRequest, Prediction,
    inbound::axum::predict,
    testing::mock::{MockDspy, Reply},
};

use super::{
    served::{LONG, SHORT, Server, in_flight, program},
    support::SOON,
};

type Sender = SendRequest<Full<Bytes>>;

async fn connect(server: SocketAddr) -> (Sender, JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(server).await.unwrap();
    let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = shaken.unwrap();
    (sender, tokio::spawn(connection))
}

fn ask() -> Request<Full<Bytes>> {
    Request::post("http://h/qa")
        .header("content-type", "application/json")
        .body(Full::from("{\"question\":\"\"}"))
        .unwrap()
}

fn asked(sender: &mut Sender) -> JoinHandle<hyper::Result<(StatusCode, Bytes)>> {
    let answer = sender.send_request(ask());
    tokio::spawn(async move {
        let response = answer.await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    })
}

#[tokio::test]
async fn a_reset_cancels_its_own_call_and_no_other() {
    let mock = MockDspy::new([Reply::hang(), Reply::hang()]);
    let server = Server::start(program(&mock), LONG, LONG).await;
    let address = server.address;
    // hyper's client has tasks of its own: the connection is closed with the last of them.
    let elsewhere = Runtime::new().unwrap();
    let (tell, told) = oneshot::channel();
    elsewhere.spawn(async move {
        let (mut sender, connection) = connect(address).await;
        let calls = (asked(&mut sender), asked(&mut sender));
        let _ = tell.send(calls.0.abort_handle());
        let _ = (connection.await, calls);
    });
    in_flight(&mock, 2).await;
    told.await.unwrap().abort();
    in_flight(&mock, 1).await;
    assert_eq!(mock.stopped(), [Cause::ClientGone]);
    elsewhere.shutdown_background();
    in_flight(&mock, 0).await;
    assert_eq!(mock.stopped(), [Cause::ClientGone, Cause::ClientGone]);
}

#[tokio::test]
async fn a_shutdown_sends_goaway_and_answers_the_calls_in_flight() {
    let (begun, gate) = (Notify::new(), Notify::new());
    let (begun, gate) = (&*Box::leak(Box::new(begun)), &*Box::leak(Box::new(gate)));
    let program = service_fn(move |_: PredictRequest| async move {
        begun.notify_one();
        gate.notified().await;
        let outputs = [("answer".to_owned(), json!("blue"))];
        Ok::<_, Error>(Prediction::new(outputs.into_iter().collect()))
    });
    let app = Router::new()
        .route("/qa", predict(program))
        .layer(InboundLayer::new());
    let mut server = Server::start(app, LONG, LONG).await;
    let (mut sender, connection) = connect(server.address).await;
    let (mut idle, idle_connection) = connect(server.address).await;
    let answer = asked(&mut sender);
    begun.notified().await;
    server.stop();

    // A connection with nothing on it ends at once, and well.
    let ended = timeout(SOON, idle_connection).await;
    ended.expect("it is kept").unwrap().unwrap();
    assert!(idle.ready().await.is_err());
    // One with a call on it waits for that.
    assert!(!answer.is_finished());
    gate.notify_one();
    let (status, body) = answer.await.unwrap().unwrap();
    assert_eq!(status, StatusCode::OK);
    assert!(String::from_utf8_lossy(&body).contains("blue"));
    connection.await.unwrap().unwrap();
    let report = server.report().await;
    assert_eq!(
        (report.requests.accepted, report.requests.completed),
        (1, 1)
    );
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn calls_that_outlast_the_drain_are_answered_503_over_http2_too() {
    let mock = MockDspy::new([Reply::hang()]);
    let mut server = Server::start(program(&mock), SHORT, LONG).await;
    let (mut sender, connection) = connect(server.address).await;
    let answer = asked(&mut sender);
    in_flight(&mock, 1).await;
    server.stop();
    let (status, body) = answer.await.unwrap().unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(String::from_utf8_lossy(&body).contains("shutting_down"));
    connection.await.unwrap().unwrap();
    assert_eq!(server.report().await.requests.cancelled, 1);
    assert_eq!(mock.stopped(), [Cause::Shutdown]);
}
