//! Clients of HTTP/2 that flood, reset and stall: the server closes their connections, by the code that
//! HTTP/2 has for it, and keeps nothing of them.

use std::future::pending;

use serde_json::json;
use tokio::{io::AsyncWriteExt, time::timeout};
use tower_dspy::testing::mock::{MockDspy, Reply};

use super::{
    http2_frames::{
        CANCEL, CONTINUATION, ConnectionEnd, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM,
        Frames, GOAWAY, HEADERS, NO_ERROR, PROTOCOL_ERROR, RST_STREAM, WINDOW_UPDATE, ask, frame,
        post, stream,
    },
    served::{LONG, SHORT, Server, in_flight, program},
    support::SOON,
};

async fn answering() -> (MockDspy, Server) {
    let mock = MockDspy::from_fn(|_| Reply::answer(json!({"answer": "blue"})));
    let server = Server::start(program(&mock), LONG, LONG).await;
    (mock, server)
}

#[tokio::test]
async fn a_rapid_reset_is_ended_by_enhance_your_calm() {
    let (mock, server) = answering().await;
    let client = Frames::connect(server.address, &[]).await;
    let end = client.end_of_flood(|n| {
        let reset = frame(RST_STREAM, 0, stream(n), &CANCEL);
        [ask(stream(n)), reset].concat()
    });
    assert_eq!(end.await, ConnectionEnd::GoAway(ENHANCE_YOUR_CALM));
    in_flight(&mock, 0).await;
}

#[tokio::test]
async fn a_client_that_resets_the_calls_it_has_begun_is_closed() {
    let mock = MockDspy::from_fn(|_| Reply::hang());
    let mut server = Server::start(program(&mock), LONG, LONG).await;
    let client = Frames::connect(server.address, &[]).await;
    let (mut writer, end) = client.split();
    let resets = async {
        // 51 would do, but a batch that is held up for a second has no early resets.
        for batch in 0..100 {
            let streams = || (20 * batch..20 * (batch + 1)).map(stream);
            let asks: Vec<_> = streams().flat_map(ask).collect();
            let reset = |stream| frame(RST_STREAM, 0, stream, &CANCEL);
            let resets: Vec<_> = streams().flat_map(reset).collect();
            if writer.write_all(&asks).await.is_err() {
                break;
            }
            // All have begun: h2 limits the resets of those that have not.
            in_flight(&mock, 20).await;
            if writer.write_all(&resets).await.is_err() {
                break;
            }
            in_flight(&mock, 0).await;
        }
        pending::<()>().await;
    };
    let closed = async {
        tokio::select! {
            end = end => end,
            () = resets => unreachable!("it is pending"),
        }
    };
    let end = timeout(SOON, closed).await.expect("it is not closed");
    // It has not heeded a GOAWAY, and is closed. hyper has no other code for an end that is the server's.
    assert_eq!(end, ConnectionEnd::GoAway(NO_ERROR));
    in_flight(&mock, 0).await;
    server.stop();
    let report = server.report().await;
    assert_eq!(report.connections_flooded, 1, "{report}");
    assert_eq!(report.connections_failed, 0, "{report}");
}

#[tokio::test]
async fn a_client_that_resets_every_other_call_of_a_thousand_is_served() {
    let mock = MockDspy::from_fn(|call| match call.inputs["question"].as_str() {
        Some("") => Reply::answer(json!({"answer": "blue"})),
        _ => Reply::hang(),
    });
    let server = Server::start(program(&mock), LONG, LONG).await;
    let mut client = Frames::connect(server.address, &[]).await;
    for n in 0..500 {
        let (reset, asked) = (stream(2 * n), stream(2 * n + 1));
        let headers = post("/qa", &[("content-type", "application/json")]);
        let hang = [
            frame(HEADERS, END_HEADERS, reset, &headers),
            frame(DATA, END_STREAM, reset, b"{\"question\":\"?\"}"),
        ];
        client.send(&[hang.concat(), ask(asked)].concat()).await;
        loop {
            let (kind, stream, _) = client.next().await.expect("an answer");
            assert_ne!(kind, GOAWAY, "{n}");
            if (kind, stream) == (HEADERS, asked) {
                break;
            }
        }
        client.send(&frame(RST_STREAM, 0, reset, &CANCEL)).await;
    }
    in_flight(&mock, 0).await;
}

#[tokio::test]
async fn resets_that_the_server_is_made_to_send_are_ended() {
    // An update by nothing is an error of the connection. An update beyond the largest size is an
    // error of the stream, which the server resets.
    for (grows, code) in [
        (0_u32, PROTOCOL_ERROR),
        (i32::MAX as u32, ENHANCE_YOUR_CALM),
    ] {
        let (mock, server) = answering().await;
        let client = Frames::connect(server.address, &[]).await;
        let end = client.end_of_flood(|n| {
            let headers = frame(HEADERS, END_HEADERS, stream(n), &post("/qa", &[]));
            let update = frame(WINDOW_UPDATE, 0, stream(n), &grows.to_be_bytes());
            [headers, update].concat()
        });
        assert_eq!(end.await, ConnectionEnd::GoAway(code), "{grows}");
        assert!(mock.calls().is_empty());
    }
}

#[tokio::test]
async fn a_flood_of_continuations_is_ended_by_enhance_your_calm() {
    for part in [&b""[..], b"\0\x01x\x01y"] {
        let (_, server) = answering().await;
        let client = Frames::connect(server.address, &[]).await;
        let end = client.end_of_flood(|n| match n {
            0 => frame(HEADERS, END_STREAM, 1, &post("/qa", &[])),
            _ => frame(CONTINUATION, 0, 1, part),
        });
        let end = end.await;
        assert_eq!(end, ConnectionEnd::GoAway(ENHANCE_YOUR_CALM), "{part:?}");
    }
}

#[tokio::test]
async fn a_flood_of_tiny_data_is_ended_by_enhance_your_calm() {
    for part in [&b""[..], b" "] {
        let (mock, server) = answering().await;
        let client = Frames::connect(server.address, &[]).await;
        let end = client.end_of_flood(|n| match n {
            0 => {
                let headers = post("/qa", &[("content-type", "application/json")]);
                frame(HEADERS, END_HEADERS, 1, &headers)
            }
            _ => frame(DATA, 0, 1, part).repeat(100),
        });
        let end = end.await;
        assert_eq!(end, ConnectionEnd::GoAway(ENHANCE_YOUR_CALM), "{part:?}");
        assert!(mock.calls().is_empty());
    }
}

#[tokio::test]
async fn a_client_that_goes_silent_in_its_headers_is_closed_in_time() {
    let mock = MockDspy::new([Reply::hang()]);
    for begun in [Vec::new(), frame(HEADERS, END_STREAM, 1, &post("/qa", &[]))] {
        let server = Server::impatient(program(&mock), SHORT).await;
        let mut client = Frames::connect(server.address, &[]).await;
        client.send(&begun).await;
        // It answers no ping.
        client.end().await;
    }
    assert!(mock.calls().is_empty());
}

#[tokio::test]
async fn a_connection_that_ends_by_a_flood_is_counted() {
    let (_, mut server) = answering().await;
    let client = Frames::connect(server.address, &[]).await;
    client
        .end_of_flood(|_| frame(CONTINUATION, 0, 1, b""))
        .await;
    server.stop();
    let report = server.report().await;
    assert_eq!(report.connections_failed, 1, "{report}");
}
