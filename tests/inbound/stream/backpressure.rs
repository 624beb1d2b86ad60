//! A client that reads slowly, or not at all.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::stream;
use http_body_util::BodyExt;
use tokio::{io::AsyncWriteExt, net::TcpListener, net::TcpStream};

use super::{CHAT, DIALECTS, Streaming, app, ask, streams, text};

/// Texts without an end, and how many were taken.
fn endless(delta: &'static str) -> (Streaming, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let service = streams(move |_| {
        let count = Arc::clone(&count);
        stream::repeat_with(move || {
            count.fetch_add(1, Ordering::SeqCst);
            text(1, "answer", delta)
        })
    });
    (service, taken)
}

#[tokio::test]
async fn an_event_is_taken_when_the_one_before_has_gone() {
    for (path, body) in DIALECTS {
        let (service, taken) = endless("x");
        let response = ask(&app(&service), path, body).await;
        // The first is taken for the head.
        assert_eq!(taken.load(Ordering::SeqCst), 1, "{path}");
        let mut frames = response.into_body();
        let mut events = 0;
        while events < 50 {
            let frame = frames.frame().await.unwrap().unwrap();
            let frame = frame.into_data().unwrap();
            // One event a frame.
            assert_eq!(frame.windows(2).filter(|end| end == b"\n\n").count(), 1);
            events += usize::from(std::str::from_utf8(&frame).unwrap().contains("\"x\""));
            assert!(taken.load(Ordering::SeqCst) <= events.max(1), "{path}");
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_stream() {
    const LARGE: &str = match std::str::from_utf8(&[b'x'; 4096]) {
        Ok(text) => text,
        Err(_) => "",
    };
    let (service, taken) = endless(LARGE);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = app(&service);
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{CHAT}",
        CHAT.len()
    );
    client.write_all(request.as_bytes()).await.unwrap();
    // Until it stands still: the buffers of hyper and of the kernel, some MB, are full.
    let mut before = 0;
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let now = taken.load(Ordering::SeqCst);
        if now > 0 && now == before {
            break;
        }
        before = now;
        assert!(
            now < 50_000,
            "200 MB were taken for a client that does not read"
        );
    }
    drop(client);
}
