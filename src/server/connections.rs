//! The connections of a server, and how each ends.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use ::axum::{Router, body::Body, extract::ConnectInfo, response::Response};
use http::{HeaderValue, Request, StatusCode, Version, header};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{ServiceExt, service_fn, util::MapResult};

use super::socket::{Heard, Socket};
use crate::{
    call::{Cancel, Carrier, Cause, drop_scope},
    error::Cancelled,
    inbound::{Protocol, respond::ErrorResponse},
    layers::{Shutdown, ShutdownService},
};

type Judge = fn(Result<Response, Infallible>) -> Result<Response, Ended>;
type App = ShutdownService<MapResult<Router, Judge>>;

/// The connections of a server, which end with it.
pub(super) struct Connections {
    app: App,
    shutdown: Shutdown,
    head_timeout: Duration,
    builder: Builder<TokioExecutor>,
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
    pub(super) fn new(app: Router, shutdown: Shutdown, head_timeout: Duration) -> Self {
        let mut builder = Builder::new(TokioExecutor::new());
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
        Self {
            app: ShutdownService::new(MapResult::new(app, judge as Judge), shutdown.clone()),
            shutdown,
            head_timeout,
            builder,
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
        let (socket, heard) = Socket::new(io);
        let noted = heard.clone();
        let service = service_fn(move |request: Request<_>| {
            let version = request.version();
            seen.store(version == Version::HTTP_2, Relaxed);
            let mut request = request.map(|body| Body::new(noted.body(body)));
            request.extensions_mut().insert(ConnectInfo(peer.clone()));
            // A node of each request's own: many would wait in one.
            request.context_mut().cancel = root.child();
            let protocol = Protocol::of(request.headers());
            let (call, shutdown) = (app.clone().oneshot(request), shutdown.clone());
            async move {
                let mut response = call.await.unwrap_or_else(|ended| answer(ended, protocol));
                if !shutdown.is_ready() {
                    say_close(version, &mut response);
                }
                Ok::<_, Infallible>(response)
            }
        });
        let (builder, head_timeout) = (self.builder.clone(), self.head_timeout);
        let (closing, idle) = (self.closing.clone(), self.idle.clone());
        let cut = self.cut.clone();
        self.tasks.spawn(async move {
            let service = TowerToHyperService::new(service);
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(socket), service);
            let mut connection = Box::pin(connection);
            let wanted = async {
                tokio::select! {
                    () = mute(head_timeout, &heard) => {}
                    () = closing.cancelled() => if !http2.load(Relaxed) {
                        idle.cancelled().await;
                    }
                }
            };
            let ended = tokio::select! {
                ended = connection.as_mut() => Some(ended),
                () = wanted => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        ended = connection.as_mut() => Some(ended),
                        () = cut.cancelled() => None,
                    }
                }
                () = cut.cancelled() => None,
            };
            match ended {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::debug!(target: "tower_dspy", %error, "a connection failed");
                }
                // What is still under way here has not lost its client.
                None => drop_scope::with(Cause::Shutdown, || drop(connection)),
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

/// Returns if the client of a new connection has not even said by `limit` which protocol it speaks.
/// From then on hyper has limits of its own.
async fn mute(limit: Duration, heard: &Heard) {
    sleep(limit).await;
    if heard.enough() {
        std::future::pending().await
    }
}

/// A client that knows in time sends its next request elsewhere. (HTTP/2 has GOAWAY for it.)
fn say_close(version: Version, response: &mut Response) {
    if version < Version::HTTP_2 && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
}

/// How a request ended that is not counted as completed.
enum Ended {
    Failed(Box<Response>),
    Cancelled(Cancelled),
}

impl From<Cancelled> for Ended {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

impl From<Infallible> for Ended {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

fn judge(answered: Result<Response, Infallible>) -> Result<Response, Ended> {
    let response = answered.unwrap_or_else(|never| match never {});
    // 499 is what the table says to a call that was cancelled.
    let failed = response.status().is_server_error() || response.status().as_u16() == 499;
    if failed || failed_in_grpc(&response) {
        Err(Ended::Failed(Box::new(response)))
    } else {
        Ok(response)
    }
}

/// Whether a gRPC status in the head says the same: none that lays the fault at the client's door.
fn failed_in_grpc(response: &Response) -> bool {
    let code = response.headers().get("grpc-status");
    let code = code.and_then(|code| code.to_str().ok()?.parse::<u8>().ok());
    matches!(code, Some(1 | 2 | 4 | 8 | 10 | 13..=15))
}

fn answer(ended: Ended, protocol: Protocol) -> Response {
    match ended {
        Ended::Failed(response) => *response,
        Ended::Cancelled(cancelled) => ErrorResponse::of(cancelled)
            .into_protocol(protocol)
            .map(Body::new),
    }
}
