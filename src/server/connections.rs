//! The connections of a server, and how each ends.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use ::axum::{Router, body::Body, extract::ConnectInfo, response::Response};
use futures_util::FutureExt;
use http::{HeaderValue, Request, StatusCode, Version, header};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{ServiceExt, service_fn, util::MapResult};

use super::{
    reset_count::ResetCount,
    send_progress::SentBody,
    socket::{Socket, SocketState},
    socket_body::SocketBody,
    stream_executor::StreamExecutor,
};
use crate::{
    call::{Cancel, Carrier, Cause, drop_scope},
    error::Cancelled,
    inbound::{Protocol, body_deadline::BodyDeadline, respond::ErrorResponse},
    layers::{Shutdown, ShutdownService},
};

type Outcome = fn(Result<Response, Infallible>) -> Result<Response, RequestEnd>;
type App = ShutdownService<MapResult<Router, Outcome>>;

/// How a connection ended.
enum ConnectionEnd<E> {
    Served(Result<(), E>),
    Stalled,
    Flooded,
    Cut,
}

/// How many connections ended in other ways than by their client's or the server's will.
#[derive(Debug, Default)]
pub(super) struct ConnectionEnds {
    pub(super) failed: AtomicUsize,
    pub(super) flooded: AtomicUsize,
    pub(super) stalled: AtomicUsize,
    pub(super) streams_stalled: Arc<AtomicUsize>,
}

/// The connections of a server, which end with it.
pub(super) struct Connections {
    app: App,
    shutdown: Shutdown,
    head_timeout: Duration,
    send_timeout: Duration,
    pub(super) ends: Arc<ConnectionEnds>,
    /// One for each connection.
    pub(super) tasks: TaskTracker,
    /// Above the node of each request.
    pub(super) root: Cancel,
    /// The connections are to end, but for those that may have a request on its way.
    pub(super) closing: CancellationToken,
    /// Those as well.
    pub(super) idle: CancellationToken,
    pub(super) cut: CancellationToken,
}

impl Connections {
    pub(super) fn new(
        app: Router,
        shutdown: Shutdown,
        head_timeout: Duration,
        send_timeout: Duration,
    ) -> Self {
        Self {
            app: ShutdownService::new(MapResult::new(app, outcome as Outcome), shutdown.clone()),
            shutdown,
            head_timeout,
            send_timeout,
            ends: Arc::default(),
            tasks: TaskTracker::new(),
            root: Cancel::new(),
            closing: CancellationToken::new(),
            idle: CancellationToken::new(),
            cut: CancellationToken::new(),
        }
    }

    /// Serves the connection `io` on a task of its own.
    pub(super) fn serve<Io, Peer>(&self, io: Io, peer: Peer)
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        Peer: Clone + Send + Sync + 'static,
    {
        let (app, root, shutdown) = (self.app.clone(), self.root.clone(), self.shutdown.clone());
        let http2 = Arc::new(AtomicBool::new(false));
        let seen = http2.clone();
        let state = Arc::<SocketState>::default();
        let (socket, of_body) = (Socket::new(io, state.clone()), state.clone());
        let bodies = state.bodies.clone();
        let resets = Arc::<ResetCount>::default();
        let counted = resets.clone();
        let service = service_fn(move |request: Request<_>| {
            let version = request.version();
            seen.store(version == Version::HTTP_2, Relaxed);
            let deadline = BodyDeadline::default();
            let body = |body| SocketBody::new(body, deadline.clone(), of_body.clone());
            let mut request = request.map(|inner| Body::new(body(inner)));
            request.extensions_mut().insert(deadline);
            request.extensions_mut().insert(ConnectInfo(peer.clone()));
            // A node of each request's own: many would wait in one.
            request.context_mut().cancel = root.child();
            let protocol = Protocol::of(request.headers());
            let (call, shutdown) = (app.clone().oneshot(request), shutdown.clone());
            let (bodies, open) = (bodies.clone(), counted.request());
            async move {
                let mut response = call.await.unwrap_or_else(|end| response_of(end, protocol));
                open.answered();
                if !shutdown.is_ready() {
                    close_after(version, &mut response);
                }
                let progress = StreamExecutor::progress(&bodies);
                Ok::<_, Infallible>(response.map(|body| SentBody::new(body, progress)))
            }
        });
        let ends = self.ends.clone();
        let (head_timeout, send_timeout) = (self.head_timeout, self.send_timeout);
        let reset = ends.streams_stalled.clone();
        let streams = StreamExecutor::new(state.bodies.clone(), send_timeout, reset);
        let builder = builder(streams.clone(), head_timeout);
        let (closing, idle) = (self.closing.clone(), self.idle.clone());
        let cut = self.cut.clone();
        self.tasks.spawn(async move {
            let service = TowerToHyperService::new(service);
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(socket), service);
            let mut connection = Box::pin(connection);
            let served = async {
                let is_to_close = async {
                    tokio::select! {
                        () = silent(head_timeout, &state) => {}
                        () = resets.exceeded() => {}
                        () = closing.cancelled() => if !http2.load(Relaxed) {
                            idle.cancelled().await;
                        }
                    }
                };
                tokio::select! {
                    ended = connection.as_mut() => return ended,
                    () = is_to_close => {
                        // An idle connection closes with a request unread, so what has come is read first.
                        if let Some(ended) = connection.as_mut().now_or_never() {
                            return ended;
                        }
                        connection.as_mut().graceful_shutdown();
                    }
                }
                connection.as_mut().await
            };
            let ended = tokio::select! {
                ended = served => ConnectionEnd::Served(ended),
                () = state.writes.stalled(send_timeout) => ConnectionEnd::Stalled,
                () = state.bodies.stalled(send_timeout) => ConnectionEnd::Stalled,
                () = streams.stalled() => ConnectionEnd::Stalled,
                () = resets.flooded() => ConnectionEnd::Flooded,
                () = cut.cancelled() => ConnectionEnd::Cut,
            };
            if resets.is_exceeded() {
                tracing::debug!(target: "tower_dspy", "a client resets too many requests");
            }
            match ended {
                ConnectionEnd::Served(Ok(())) if !resets.is_exceeded() => {}
                ConnectionEnd::Served(Ok(())) | ConnectionEnd::Flooded => {
                    ends.flooded.fetch_add(1, Relaxed);
                }
                ConnectionEnd::Served(Err(error)) => {
                    ends.failed.fetch_add(1, Relaxed);
                    tracing::debug!(target: "tower_dspy", %error, "a connection failed");
                }
                ConnectionEnd::Stalled => {
                    ends.stalled.fetch_add(1, Relaxed);
                    tracing::debug!(target: "tower_dspy", "a client takes nothing of its answers");
                }
                // What is still under way here has not lost its client.
                ConnectionEnd::Cut => drop_scope::with(Cause::Shutdown, || drop(connection)),
            }
        });
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.root.cancel(Cause::Shutdown);
        self.cut.cancel();
    }
}

/// How a connection whose streams run on `streams` is served.
fn builder(streams: StreamExecutor, head_timeout: Duration) -> Builder<StreamExecutor> {
    let mut builder = Builder::new(streams);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(head_timeout)
        .keep_alive_timeout(head_timeout)
        // For WebSockets over HTTP/2, as axum's own server.
        .enable_connect_protocol();
    builder
}

/// Ready if the client of a new connection has not sent by `limit` what tells its protocol. From then
/// on hyper has limits of its own.
async fn silent(limit: Duration, state: &SocketState) {
    sleep(limit).await;
    if state.knows_protocol() {
        std::future::pending().await
    }
}

/// Has the client send its next request on another connection. (HTTP/2 has GOAWAY for it.)
fn close_after(version: Version, response: &mut Response) {
    if version < Version::HTTP_2 && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
}

/// The end of a request that is not counted as completed.
enum RequestEnd {
    Failed(Box<Response>),
    Cancelled(Cancelled),
}

impl From<Cancelled> for RequestEnd {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

impl From<Infallible> for RequestEnd {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// The outcome that a response is counted as.
fn outcome(answered: Result<Response, Infallible>) -> Result<Response, RequestEnd> {
    let response = answered.unwrap_or_else(|never| match never {});
    // 499 is the status of a call that was cancelled.
    let failed = response.status().is_server_error() || response.status().as_u16() == 499;
    if failed || failed_in_grpc(&response) {
        Err(RequestEnd::Failed(Box::new(response)))
    } else {
        Ok(response)
    }
}

/// Whether the head has a gRPC status of a failure that is not the client's.
fn failed_in_grpc(response: &Response) -> bool {
    let code = response.headers().get("grpc-status");
    let code = code.and_then(|code| code.to_str().ok()?.parse::<u8>().ok());
    matches!(code, Some(1 | 2 | 4 | 8 | 10 | 13..=15))
}

fn response_of(end: RequestEnd, protocol: Protocol) -> Response {
    match end {
        RequestEnd::Failed(response) => *response,
        RequestEnd::Cancelled(cancelled) => ErrorResponse::of(cancelled)
            .into_protocol(protocol)
            .map(Body::from),
    }
}
