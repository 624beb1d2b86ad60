//! Clients that take nothing of what is sent to them: their connections are closed, and what was kept
//! for them goes.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};
use tower_dspy::{
    InboundLayer,
    testing::mock::{MockDspy, Reply},
};

use super::{
    http2_frames::{
        ConnectionEnd, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, INITIAL_WINDOW_SIZE, PING,
        RST_STREAM, ask, frame, post, stream,
    },
    served::{LONG, SHORT, Server, in_flight, program, until},
    support::{SOON, secs},
};

const LARGE: usize = 32 << 20;

/// Answers with something large, which says so when it is freed.
fn large() -> (Router, Arc<()>) {
    let kept = Arc::new(());
    let held = kept.clone();
    let answer = move || {
        let bytes = LargeBytes(vec![b'x'; LARGE], held.clone());
        async move { Body::from(Bytes::from_owner(bytes)) }
    };
    let app = Router::new()
        .route("/large", get(answer))
        .layer(InboundLayer::new());
    (app, kept)
}

struct LargeBytes(
    Vec<u8>,
    #[expect(dead_code, reason = "it is counted")] Arc<()>,
);

impl AsRef<[u8]> for LargeBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Waits until nothing large is kept but what the router itself has.
async fn freed(kept: &Arc<()>) {
    let freed = async {
        while Arc::strong_count(kept) > 2 {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(SOON, freed).await.expect("it is kept");
}

fn get_large(stream: u32) -> Vec<u8> {
    // `:method: GET`, `:scheme: http`.
    let mut block = post("/large", &[]);
    block[0] = 0x82;
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
}

#[tokio::test]
async fn a_client_of_http1_that_does_not_read_is_closed() {
    let (app, kept) = large();
    let mut server = Server::unread(app, SHORT).await;
    let mut client = server.send("GET /large HTTP/1.1\r\nhost: h\r\n\r\n").await;
    until(&mut client, "HTTP/1.1 200").await;
    freed(&kept).await;
    let mut rest = Vec::new();
    let read = timeout(SOON, client.read_to_end(&mut rest)).await.unwrap();
    assert!(read.is_err() || rest.len() < LARGE, "it was sent");
    server.stop();
    let report = server.report().await;
    assert_eq!(report.connections_stalled, 1, "{report}");
}

#[tokio::test]
async fn a_client_of_http2_whose_windows_stay_shut_is_closed() {
    // Shut, or of a few bytes, so that the server has given the answer away.
    for window in [0, 1, 1000] {
        let (app, kept) = large();
        let mut server = Server::unread(app, SHORT).await;
        let mut client = Frames::connect(server.address, &[(INITIAL_WINDOW_SIZE, window)]).await;
        for n in 0..20 {
            client.send(&get_large(stream(n))).await;
        }
        assert_eq!(client.end().await, ConnectionEnd::Closed, "{window}");
        freed(&kept).await;
        server.stop();
        let report = server.report().await;
        assert_eq!(report.connections_stalled, 1, "{window}: {report}");
    }
}

#[tokio::test]
async fn a_stream_that_is_not_taken_is_reset_and_the_others_go_on() {
    // The second has parts of the answer in h2's buffer.
    for window in [0, 1000] {
        let mock = MockDspy::from_fn(|_| Reply::hang());
        let (app, kept) = large();
        let mut server = Server::unread(app.merge(program(&mock)), SHORT).await;
        let mut client = Frames::connect(server.address, &[(INITIAL_WINDOW_SIZE, window)]).await;
        client.send(&ask(stream(0))).await;
        in_flight(&mock, 1).await;
        client.send(&get_large(stream(1))).await;
        let reset = async {
            loop {
                let (kind, of, _) = client.next().await.expect("the connection is open");
                if kind == RST_STREAM {
                    break of;
                }
            }
        };
        let reset = timeout(SOON, reset).await.expect("a reset");
        assert_eq!(reset, stream(1));
        freed(&kept).await;
        // The call that waits is not concerned, however long.
        sleep(4 * SHORT).await;
        in_flight(&mock, 1).await;
        drop(client);
        server.stop();
        let report = server.report().await;
        assert_eq!(report.connections_stalled, 0, "{window}: {report}");
        assert_eq!(report.streams_stalled, 1, "{window}: {report}");
    }
}

#[tokio::test]
async fn a_flood_whose_answers_are_not_read_is_closed() {
    let mock = MockDspy::from_fn(|_| Reply::answer(json!({"answer": "blue"})));
    for kind in [PING, 4] {
        let mut server = Server::unread(program(&mock), SHORT).await;
        let mut client = Frames::connect(server.address, &[]).await;
        let payload: &[u8] = if kind == PING { &[0; 8] } else { &[] };
        let flood = frame(kind, 0, 0, payload).repeat(1000);
        let written = async { while client.writer.write_all(&flood).await.is_ok() {} };
        timeout(SOON, written).await.expect("it is not closed");
        server.stop();
        let report = server.report().await;
        assert_eq!(report.connections_stalled, 1, "{kind}: {report}");
    }
}

#[tokio::test]
async fn a_slow_reader_is_not_closed() {
    let (app, _kept) = large();
    // Shorter than all of the answer takes, and far longer than the time between two parts.
    let mut server = Server::unread(app, secs(4)).await;
    let mut client = server.send("GET /large HTTP/1.1\r\nhost: h\r\n\r\n").await;
    until(&mut client, "\r\n\r\n").await;
    let mut part = vec![0; LARGE / 64];
    for _ in 0..64 {
        client.read_exact(&mut part).await.expect("more");
        sleep(Duration::from_millis(100)).await;
    }
    drop(client);
    server.stop();
    assert_eq!(server.report().await.connections_stalled, 0);
}

#[tokio::test]
async fn a_stream_that_has_nothing_to_send_is_not_closed() {
    let drip = || async {
        let late = stream::once(async {
            sleep(20 * SHORT).await;
            Ok::<_, std::io::Error>(Bytes::from("two"))
        });
        let first = stream::once(async { Ok(Bytes::from("one")) });
        Body::from_stream(first.chain(late))
    };
    let app = Router::new()
        .route("/drip", get(drip))
        .layer(InboundLayer::new());
    let mut server = Server::unread(app, SHORT).await;
    let mut client = server.send("GET /drip HTTP/1.1\r\nhost: h\r\n\r\n").await;
    until(&mut client, "two\r\n0\r\n\r\n").await;

    let mut http2 = Frames::connect(server.address, &[]).await;
    let mut block = post("/drip", &[]);
    block[0] = 0x82;
    http2
        .send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block))
        .await;
    let mut seen = Vec::new();
    while !seen.ends_with(b"two") {
        let (kind, _, payload) = http2.next().await.expect("more");
        if kind == DATA {
            seen.extend(payload);
        }
    }
    drop((client, http2));
    server.stop();
    let report = server.report().await;
    assert_eq!(report.connections_stalled, 0, "{report}");
}

#[tokio::test]
async fn an_answer_arrives_as_it_was_in_parts() {
    let (app, _kept) = large();
    let server = Server::start(app, LONG, LONG).await;
    let url = format!("http://{}/large", server.address);
    for client in [
        reqwest::Client::builder().build(),
        reqwest::Client::builder().http2_prior_knowledge().build(),
    ] {
        let response = client.unwrap().get(&url).send().await.unwrap();
        assert_eq!(response.content_length(), Some(LARGE as u64));
        let bytes = response.bytes().await.unwrap();
        assert!(bytes.len() == LARGE && bytes.iter().all(|&byte| byte == b'x'));
    }
    let mut client = Frames::connect(server.address, &[]).await;
    client.send(&ask(1)).await;
    let answered = async {
        while client
            .next()
            .await
            .is_some_and(|(kind, ..)| kind != HEADERS)
        {}
    };
    timeout(SOON, answered).await.expect("an answer");
}
