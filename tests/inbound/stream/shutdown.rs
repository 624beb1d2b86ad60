//! Streams that are open when their server is stopped, over HTTP/1.1.

use futures_util::stream;
use tokio::net::TcpStream;
use tower_dspy::{
    Cause,
    testing::mock::{MockDspy, Reply},
};

use super::{
    super::served::{LONG, SHORT, Server, rest, until},
    DIALECTS, Streaming, app, stalled, streams, text,
};

/// The end of a body in chunks.
const END: &str = "\r\n0\r\n\r\n";

async fn ask(server: &Server, path: &str, body: &str) -> TcpStream {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n\
         accept: text/event-stream\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    server.send(&request).await
}

#[tokio::test]
async fn an_open_stream_ends_with_an_error_when_the_drain_is_over() {
    for (path, body) in DIALECTS {
        let mock = MockDspy::new([Reply::text("answer", ["first"]).then(Reply::hang())]);
        let app = app(&Streaming::new(mock.streaming()));
        let mut server = Server::start(app, SHORT, LONG).await;
        let mut client = ask(&server, path, body).await;
        until(&mut client, "first").await;
        server.stop();

        let last = rest(client).await;
        let events = last.strip_suffix(END).expect("the body has its end");
        match path {
            "/qa" => {
                assert!(events.contains("event: error\ndata: "), "{events}");
                assert!(events.contains("\"kind\":\"shutting_down\""), "{events}");
                assert!(!events.contains("event: done"), "{events}");
            }
            "/chat" => {
                let abort = "data: {\"type\":\"abort\",\"reason\":\"shutting_down\"}\n\n";
                let (_, after) = events.split_once(abort).expect("an abort");
                assert!(after.contains("data: {\"type\":\"error\","), "{events}");
                assert!(!events.contains("\"finish\""), "{events}");
            }
            _ => {
                assert!(events.contains("\"code\":\"shutting_down\""), "{events}");
                assert!(!events.contains("[DONE]"), "{events}");
                assert!(!events.contains("\"stop\""), "{events}");
            }
        }
        let report = server.report().await;
        assert_eq!(mock.stopped(), [Cause::Shutdown], "{path}");
        assert_eq!(report.connections_cut, 0, "{path}");
    }
}

/// The program ignores its cancellation: the limits of the server hold, and the cut shows.
#[tokio::test]
async fn a_stream_that_does_not_end_is_cut_after_the_grace_and_has_no_end() {
    let endless = || stream::repeat_with(|| text(1, "answer", &"first".repeat(4096)));
    let silent = stalled(|| vec![text(1, "answer", "first")]);
    // Its client reads nothing more.
    let unread = streams(move |_| endless());
    for streaming in [silent, unread] {
        for (path, body) in DIALECTS {
            let mut server = Server::start(app(&streaming), SHORT, SHORT).await;
            let mut client = ask(&server, path, body).await;
            until(&mut client, "first").await;
            server.stop();

            let report = server.report().await;
            assert_eq!(report.connections_cut, 1, "{path}");
            let last = rest(client).await;
            assert!(!last.ends_with(END), "{path}");
            assert!(!last.contains("[DONE]"), "{path}");
        }
    }
}
