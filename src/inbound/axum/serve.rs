//! [`serve`]: a server whose end is bounded.

use std::{convert::Infallible, fmt, future::Future, io, time::Duration};

use ::axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    response::{IntoResponse, Response},
    serve::Listener,
};
use http::Request;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::time::{sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{ServiceExt, service_fn, util::MapResult};

use super::{
    super::ErrorResponse,
    shutdown::{GracefulShutdown, termination},
};
use crate::{
    Cancel, Cancelled, Carrier, Cause, Deadline, drop_scope,
    layers::{ShutdownPhase, ShutdownReport, ShutdownService},
};

/// How long connections that are cut have to be dropped by the tasks that hold them.
const LAST_POLL: Duration = Duration::from_millis(100);

/// Serves `app` on `listener` until `until` is told to end, and then ends within its bounds.
///
/// At the signal, SIGTERM or Ctrl-C unless it is [another](GracefulShutdown::on):
///
/// 1. The listener is closed, a host's [readiness](crate::Host::readiness) answers 503, idle
///    connections are closed, and new requests on the others are answered 503. What is in flight has
///    the drain to end by itself.
/// 2. Then the node in the context of each request that is left, streamed bodies included, is
///    cancelled with [`Cause::Shutdown`], and there is the [grace](GracefulShutdown::grace) to
///    clean up.
/// 3. Then what is left is dropped, and every connection is closed, whatever its client does.
/// 4. The hooks of the [`Shutdown`](crate::Shutdown) run, and the host is stopped.
///
/// ```no_run
/// use std::time::Duration;
/// use axum::{Router, routing::get};
/// use tokio::net::TcpListener;
/// use tower_dspy::{Shutdown, inbound::axum::{GracefulShutdown, liveness, serve}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let app = Router::new().route("/livez", get(liveness));
/// let listener = TcpListener::bind("127.0.0.1:8080").await?;
/// // With a host: host.shutdown(Duration::from_secs(20))
/// let until = GracefulShutdown::new(Shutdown::new(), Duration::from_secs(20));
/// let report = serve(listener, app, until).await?;
/// eprintln!("{report}");
/// # Ok(())
/// # }
/// ```
///
/// Each request has a context whose node this server can cancel, with an
/// [`InboundLayer`](crate::InboundLayer) or without; and the peer's address, for axum's
/// [`ConnectInfo`]. HTTP/1 and HTTP/2 are served, and upgrades; a connection that was upgraded is
/// its handler's.
///
/// # How it differs from `axum::serve`
/// axum's graceful shutdown waits for each connection without a bound: one client that sends its
/// body slowly, or reads its answer slowly, keeps the process alive.
///
/// # Errors
/// If no handler can be set for the signals. Connections that fail, and a listener that does for a
/// while, are no errors of the server.
///
/// # Panics
/// Outside a tokio runtime with its timer and its I/O enabled.
///
/// # Cancel safety
/// Dropping the future closes the listener and all connections, cancels the requests with
/// [`Cause::Shutdown`], and leaves the host as it is.
pub async fn serve<L>(
    mut listener: L,
    app: Router,
    until: GracefulShutdown,
) -> io::Result<ServeReport>
where
    L: Listener,
    L::Addr: Clone + Send + Sync + 'static,
{
    let GracefulShutdown {
        shutdown,
        drain,
        grace,
        signal,
        last,
    } = until;
    let mut signal = match signal {
        Some(signal) => signal,
        None => termination()?,
    };
    let open = Open::default();
    let app = ShutdownService::new(MapResult::new(app, judge), shutdown.clone());
    loop {
        let (io, peer) = tokio::select! {
            biased;
            () = &mut signal => break,
            accepted = listener.accept() => accepted,
        };
        let root = open.root.clone();
        let app = app.clone();
        let service = service_fn(move |request: Request<_>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer.clone()));
            // A node of each request's own: many would wait in one.
            request.context_mut().cancel = root.child();
            let call = app.clone().oneshot(request);
            async move { Ok::<_, Infallible>(call.await.unwrap_or_else(answer)) }
        });
        let (closing, cut) = (open.closing.clone(), open.cut.clone());
        open.connections.spawn(async move {
            let mut builder = Builder::new(TokioExecutor::new());
            // For WebSockets over HTTP/2, as axum's own server.
            builder.http2().enable_connect_protocol();
            let service = TowerToHyperService::new(service);
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
            let mut connection = Box::pin(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => Some(ended),
                () = closing.cancelled() => {
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
    drop(listener);
    open.closing.cancel();
    open.connections.close();
    let draining = Deadline::within(drain);
    let streams = async {
        if within(draining, open.connections.wait()).await {
            return 0;
        }
        // Layers further in are to see first that a grace has begun, or they end their calls.
        while shutdown.phase() == ShutdownPhase::Draining {
            sleep(Duration::from_millis(1)).await;
        }
        open.root.cancel(Cause::Shutdown);
        if within(Deadline::within(grace), open.connections.wait()).await {
            return 0;
        }
        let connections_cut = open.connections.len();
        open.cut.cancel();
        within(Deadline::within(LAST_POLL), open.connections.wait()).await;
        connections_cut
    };
    let (requests, connections_cut) = tokio::join!(shutdown.run(drain, grace), streams);
    if let Some(last) = last {
        last(grace).await;
    }
    Ok(ServeReport {
        requests,
        connections_cut,
    })
}

async fn within(deadline: Deadline, work: impl Future<Output = ()>) -> bool {
    timeout(deadline.remaining(), work).await.is_ok()
}

/// The connections of a server, which end with it.
struct Open {
    connections: TaskTracker,
    /// Above the node of each request.
    root: Cancel,
    closing: CancellationToken,
    cut: CancellationToken,
}

impl Default for Open {
    fn default() -> Self {
        Self {
            connections: TaskTracker::new(),
            root: Cancel::new(),
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.root.cancel(Cause::Shutdown);
        self.cut.cancel();
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
    if response.status().is_server_error() || response.status().as_u16() == 499 {
        Err(Ended::Failed(Box::new(response)))
    } else {
        Ok(response)
    }
}

fn answer(ended: Ended) -> Response {
    match ended {
        Ended::Failed(response) => *response,
        Ended::Cancelled(cancelled) => IntoResponse::into_response(ErrorResponse::of(cancelled)),
    }
}

/// What a server's end came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServeReport {
    /// What became of the requests, probes included. Those that were answered with a status of 5xx
    /// or 499 count as failed, or as cancelled if that was after the shutdown told them to stop.
    pub requests: ShutdownReport,
    /// How many connections were closed before they were done: their clients had not sent all of
    /// their requests, or not received all of their answers.
    pub connections_cut: usize,
}

impl ServeReport {
    /// Whether nothing was left behind or broken off: no request was abandoned, no hook failed and
    /// no connection was cut.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.requests.is_clean() && self.connections_cut == 0
    }
}

impl fmt::Display for ServeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; {} connections cut",
            self.requests, self.connections_cut
        )
    }
}
