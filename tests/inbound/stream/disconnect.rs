//! Clients that hang up, over HTTP/1.1.

use std::{net::SocketAddr, sync::Arc};

use axum::Router;
use futures_util::{StreamExt, stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tower::{service_fn, util::BoxCloneSyncService};
use tower_dspy::{Cancel, Cause, PredictRequest, PredictionStream, drop_scope};

use super::{super::support::SOON, DIALECTS, Item, Streaming, app, text};

/// What a call that was dropped saw: the cause of the drop, and that of its node.
pub(super) type Dropped = (Cause, Option<Cause>);

struct Guard(Cancel, mpsc::UnboundedSender<Dropped>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.1.send((drop_scope::cause(), self.0.cause()));
    }
}

pub(super) struct Calls {
    pub(super) begun: mpsc::UnboundedReceiver<()>,
    pub(super) dropped: mpsc::UnboundedReceiver<Dropped>,
}

impl Calls {
    pub(super) async fn begun(&mut self) {
        let begun = timeout(SOON, self.begun.recv()).await;
        begun.expect("no call began").unwrap();
    }

    pub(super) async fn dropped(&mut self) -> Dropped {
        let dropped = timeout(SOON, self.dropped.recv()).await;
        dropped.expect("nothing was dropped").unwrap()
    }
}

/// A service that reports how its calls end. With `answers`, a call has one event and then hangs;
/// without, its response never comes.
pub(super) fn watched(answers: bool) -> (Streaming, Calls) {
    let (begin, begun) = mpsc::unbounded_channel();
    let (tell, dropped) = mpsc::unbounded_channel();
    let senders = Arc::new((begin, tell));
    let service = BoxCloneSyncService::new(service_fn(move |request: PredictRequest| {
        let senders = Arc::clone(&senders);
        async move {
            let (_, context) = request.into_parts();
            let guard = Guard(context.cancel, senders.1.clone());
            let _ = senders.0.send(());
            if !answers {
                std::future::pending::<()>().await;
            }
            let events = stream::iter([text(1, "answer", "first")]);
            let events = events.chain(stream::pending::<Item>()).map(move |item| {
                let _with_the_stream = &guard;
                item
            });
            Ok(PredictionStream::new(events))
        }
    }));
    (service, Calls { begun, dropped })
}

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn send(address: SocketAddr, path: &str, body: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n\
         accept: text/event-stream\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

pub(super) const GONE: Dropped = (Cause::ClientGone, Some(Cause::ClientGone));

#[tokio::test]
async fn a_client_that_hangs_up_before_the_first_event_cancels_the_call() {
    let (service, mut calls) = watched(false);
    let address = serve(app(&service)).await;
    for (path, body) in DIALECTS {
        let client = send(address, path, body).await;
        calls.begun().await;
        drop(client);
        assert_eq!(calls.dropped().await, GONE, "{path}");
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_in_the_stream_cancels_the_call() {
    let (service, mut calls) = watched(true);
    let address = serve(app(&service)).await;
    for (path, body) in DIALECTS {
        let mut client = send(address, path, body).await;
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("first") {
            let read = timeout(SOON, client.read_buf(&mut seen)).await;
            assert!(read.expect("no event").unwrap() > 0);
        }
        drop(client);
        assert_eq!(calls.dropped().await, GONE, "{path}");
    }
}
