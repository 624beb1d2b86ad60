//! Compressed answers, of a service of the user's: they pass the same code as those of the client.

use std::{io::Write, sync::Mutex};

use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};
use http_body_util::StreamBody;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

const ANSWER: &str = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;

fn gzip(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_ref()).expect("memory");
    encoder.finish().expect("memory")
}

fn zlib(text: &str) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

fn raw(text: &str) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

/// An LM that sends these bytes, a few at a time, as encoded like that.
fn sends(status: u16, encoding: &'static str, bytes: Vec<u8>, at_once: usize) -> LmHandle {
    let (lm, _) = lm(move |_, _| {
        let pieces: Vec<_> = bytes.chunks(at_once).map(Bytes::copy_from_slice).collect();
        async move {
            let frames = pieces
                .into_iter()
                .map(|piece| Ok::<_, BoxError>(Frame::data(piece)));
            let answer = Response::builder().status(status);
            let answer = answer.header("content-encoding", encoding);
            let answer = answer.header("content-type", "application/json");
            let answer = answer.header("content-length", "1");
            Ok::<_, BoxError>(answer.body(StreamBody::new(futures_util::stream::iter(frames)))?)
        }
    });
    connect(&lm)
}

#[tokio::test]
async fn an_unrequested_compressed_answer_is_read() {
    let encodings = [
        ("gzip", gzip(ANSWER)),
        ("X-GZIP", gzip(ANSWER)),
        ("gzip", [gzip(&ANSWER[..20]), gzip(&ANSWER[20..])].concat()),
        ("deflate", zlib(ANSWER)),
        ("deflate", raw(ANSWER)),
        ("identity, deflate, gzip", gzip(zlib(ANSWER))),
    ];
    for (encoding, bytes) in encodings {
        for at_once in [1, 7, 10_000] {
            let lm = sends(200, encoding, bytes.clone(), at_once);
            let (request, log) = with_log(request(URL, "x", false));
            let answer = lm.send(request).await.expect("an answer");
            for gone in ["content-encoding", "content-length"] {
                assert!(!answer.headers().contains_key(gone), "{encoding}");
            }
            let body = text(answer.into_body()).await;
            assert_eq!(body.as_deref(), Ok(ANSWER), "{encoding} by {at_once}");
            assert_eq!(log.usage().prompt_tokens, 3);
            assert_eq!(outcomes(&log), [LmOutcome::Answered]);
        }
    }
}

#[tokio::test]
async fn each_event_of_a_compressed_stream_is_read_as_it_comes() {
    let (send, receive) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
    let receive = Arc::new(Mutex::new(Some(receive)));
    let (lm, _) = lm(move |_, _| {
        let receive = receive.lock().expect("a lock").take();
        let frames = futures_util::stream::unfold(receive, |receive| async {
            let mut receive = receive?;
            let piece = receive.recv().await?;
            Some((Ok::<_, BoxError>(Frame::data(piece)), Some(receive)))
        });
        async move {
            let answer = Response::builder().header("content-encoding", "gzip");
            let answer = answer.header("content-type", "text/event-stream");
            Ok::<_, BoxError>(answer.body(StreamBody::new(frames))?)
        }
    });
    let lm = connect(&lm);
    let answer = lm.send(request(URL, "x", true)).await.expect("a head");
    let mut body = answer.into_body();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for event in ["data: one\n\n", "data: two\n\n"] {
        encoder.write_all(event.as_bytes()).expect("memory");
        encoder.flush().expect("memory");
        let piece = std::mem::take(encoder.get_mut());
        send.send(piece.into()).expect("it is read");
        let frame = body.frame().await.expect("an event").expect("an event");
        assert_eq!(frame.into_data().expect("data"), event);
    }
}

#[tokio::test]
async fn a_compressed_error_is_read() {
    let error = format!(r#"{{"error":{{"message":"no such key: {KEY}"}}}}"#);
    let lm = sends(401, "gzip", gzip(&error), 10);
    let answer = lm.send(request(URL, "x", false)).await.expect("an answer");
    assert_eq!(answer.status(), 401);
    assert!(!answer.headers().contains_key("content-encoding"));
    let body = text(answer.into_body()).await.expect("a body");
    assert_eq!(body, r#"{"error":{"message":"no such key: [redacted]"}}"#);
}

#[tokio::test]
async fn an_undecodable_body_is_reported() {
    let mut broken = gzip(ANSWER.repeat(100));
    let middle = broken.len() / 2;
    broken[middle] ^= 0xff;
    let mut broken_zlib = zlib(ANSWER);
    broken_zlib[9] ^= 0xff;
    let whole = gzip(ANSWER);
    let cut = whole[..whole.len() - 9].to_vec();
    let cut_zlib = zlib(ANSWER)[..20].to_vec();
    let mut after = raw(ANSWER);
    after.push(0);
    for (encoding, bytes, kind) in [
        ("gzip", broken, LmFailureKind::Protocol),
        ("gzip", ANSWER.into(), LmFailureKind::Protocol),
        ("deflate", broken_zlib, LmFailureKind::Protocol),
        ("deflate", after, LmFailureKind::Protocol),
        ("gzip", cut, LmFailureKind::Read),
        ("deflate", cut_zlib, LmFailureKind::Read),
        ("deflate", vec![0x78], LmFailureKind::Read),
    ] {
        let lm = sends(200, encoding, bytes, 16);
        let (request, log) = with_log(request(URL, "x", false));
        let answer = lm.send(request).await.expect("a head");
        let error = text(answer.into_body()).await.expect_err("it is broken");
        assert_eq!(error.kind(), kind, "{encoding}: {error}");
        assert!(error.message().contains(encoding), "{error}");
        assert_eq!(outcomes(&log), [LmOutcome::Failed]);
    }
}

#[tokio::test]
async fn an_unknown_encoding_is_named_unless_the_status_is_an_error() {
    let unknown = sends(200, "br", vec![1, 2, 3], 3);
    let (asked, log) = with_log(request(URL, "x", false));
    let error = unknown.send(asked).await.expect_err("it is not known");
    assert_eq!(error.kind(), LmFailureKind::Protocol);
    assert!(error.message().contains("`br`"), "{error}");
    assert_eq!(outcomes(&log), [LmOutcome::Failed]);
    let answer = sends(503, "br", vec![1, 2, 3], 3).send(request(URL, "x", false));
    assert_eq!(answer.await.expect("an answer").status(), 503);
}

#[tokio::test]
async fn an_empty_body_with_an_encoding_is_empty() {
    let answer = sends(200, "gzip", Vec::new(), 1).send(request(URL, "x", false));
    let body = answer.await.expect("an answer").into_body();
    assert_eq!(text(body).await.as_deref(), Ok(""));
}

#[tokio::test]
async fn the_accept_encoding_of_the_caller_is_forwarded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let server = tokio::spawn(async move {
        let mut asked = Vec::new();
        for _ in 0..2 {
            let (mut tcp, _) = listener.accept().await.expect("a client");
            let mut request = [0; 4096];
            let read = tcp.read(&mut request).await.expect("a request");
            asked.push(String::from_utf8_lossy(&request[..read]).to_lowercase());
            let body = gzip(ANSWER);
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nconnection: close\r\n\
                 content-length: {}\r\n\r\n",
                body.len()
            );
            let answer = [head.as_bytes(), &body].concat();
            tcp.write_all(&answer).await.expect("a client");
        }
        asked
    });
    let lm = connect(&lm_at(&base));
    for identity in [true, false] {
        let mut asked = request(&base, "x", false);
        if identity {
            let value = ::http::HeaderValue::from_static("identity");
            asked.headers_mut().insert("accept-encoding", value);
        }
        let answer = lm.send(asked).await.expect("an answer");
        assert_eq!(text(answer.into_body()).await.as_deref(), Ok(ANSWER));
    }
    let asked = server.await.expect("two requests");
    assert!(
        asked[0].contains("accept-encoding: identity\r\n"),
        "{}",
        asked[0]
    );
    assert!(!asked[1].contains("accept-encoding"), "{}", asked[1]);
}
