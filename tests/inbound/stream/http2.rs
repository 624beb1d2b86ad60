//! Clients that hang up, over HTTP/2.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{
    super::served::{LONG, Server},
    DIALECTS, app,
    disconnect::{GONE, watched},
};

fn request(path: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::post(format!("http://h{path}"))
        .header("content-type", "application/json")
        .header("accept", "text/event-stream")
        .body(Full::from(body))
        .unwrap()
}

#[tokio::test]
async fn a_reset_before_the_first_event_cancels_the_call() {
    let (service, mut calls) = watched(false);
    let server = Server::start(app(&service), LONG, LONG).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.unwrap();
    tokio::spawn(connection);
    for (path, body) in DIALECTS {
        let answer = tokio::spawn(sender.send_request(request(path, body)));
        calls.begun().await;
        answer.abort();
        assert_eq!(calls.dropped().await, GONE, "{path}");
    }
}

#[tokio::test]
async fn a_reset_in_the_stream_cancels_the_call() {
    let (service, mut calls) = watched(true);
    let server = Server::start(app(&service), LONG, LONG).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.unwrap();
    tokio::spawn(connection);
    for (path, body) in DIALECTS {
        let response = sender.send_request(request(path, body)).await.unwrap();
        let mut body = response.into_body();
        let mut seen = String::new();
        while !seen.contains("first") {
            let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
            seen.push_str(std::str::from_utf8(&frame).unwrap());
        }
        drop(body);
        assert_eq!(calls.dropped().await, GONE, "{path}");
    }
}
