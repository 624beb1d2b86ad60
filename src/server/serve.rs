//! [`serve`]: a server whose end is bounded.

use std::{io, sync::atomic::Ordering::Relaxed, time::Duration};

use ::axum::{Router, serve::Listener};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::{sleep, timeout};

use super::{
    connections::Connections,
    report::ServeReport,
    shutdown::{GracefulShutdown, LAST_POLL, LINGER, termination},
};
use crate::{
    call::{Cause, Deadline},
    layers::ShutdownPhase,
};

/// How long the runtime may take to report a connection that waits.
const LOOK: Duration = Duration::from_millis(1);

/// More than nginx and the load balancers of clouds, mostly 60 s, keep an idle connection to a server
/// behind them: the server must not be the first to close it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// The range of both limits: none would close each connection at once, and hyper adds it to the time.
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// As nginx waits between two writes.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// Serves `app` on `listener` until the signal of `until`, and then ends within its bounds.
///
/// At the signal, SIGTERM or Ctrl-C unless it is [another](GracefulShutdown::with_signal):
///
/// 1. A host's [readiness](crate::Host::readiness) answers 503. Requests are served, and new
///    connections taken, for the [delay](GracefulShutdown::with_delay) that load balancers need to see
///    it; none unless you set one. Each answer over HTTP/1 asks its client to use another
///    connection from now on.
/// 2. The connections that wait to be taken are, and the listener is closed. Clients of HTTP/2
///    learn by GOAWAY which of their requests are answered. What is in flight has the drain to end
///    by itself; in its first 250 ms, requests that were on their way on open connections are
///    served too. Then idle connections are closed, and requests that come on the others are
///    answered 503.
/// 3. At the end of the drain the node in the context of each request that is left, streamed bodies
///    included, is cancelled with [`Cause::Shutdown`], and there is the
///    [grace](GracefulShutdown::with_grace) to clean up.
/// 4. Then what is left is dropped, and every connection is closed, whatever its client does.
/// 5. The hooks of the [`Shutdown`](crate::Shutdown) run, and the host is stopped.
///
/// [`GracefulShutdown::max_duration`] adds up how long that may take.
///
/// ```no_run
/// use std::time::Duration;
/// use axum::{Router, routing::get};
/// use tokio::net::TcpListener;
/// use tower_dspy::{Shutdown, inbound::axum::liveness, server::{GracefulShutdown, serve}};
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
/// [`ConnectInfo`](::axum::extract::ConnectInfo). HTTP/1 and HTTP/2 are served, and upgrades; a
/// connection that was upgraded is its handler's.
///
/// # How it differs from `axum::serve`
/// axum's graceful shutdown waits for each connection without a bound: one client that sends its
/// body slowly, or reads its answer slowly, keeps the process alive. It closes idle connections at
/// once, with the request that may be on its way there. And it gives a client all the time in the
/// world to send the head of its request and to take its answer; see [`Server::head_timeout`] and
/// [`Server::send_timeout`]. A client of HTTP/2 that resets
/// more than 500 requests within 10 s, each within a second of its begin, is sent a GOAWAY. The
/// [guide](crate::guide::proxies) lists what else is bounded.
///
/// # What a load balancer has to do
/// A listener cannot be closed without breaking off who is just connecting. So take the server out
/// of the balancer first: by a [delay](GracefulShutdown::with_delay) that is longer than its probes
/// need, or by a `preStop` of Kubernetes that sleeps as long.
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
pub const fn serve<L>(listener: L, app: Router, until: GracefulShutdown) -> Server<L> {
    Server {
        listener,
        app,
        until,
        head_timeout: HEAD_TIMEOUT,
        send_timeout: SEND_TIMEOUT,
    }
}

/// A server that runs once it is awaited; from [`serve`].
#[derive(Debug)]
#[must_use = "a server serves while it is awaited"]
pub struct Server<L> {
    listener: L,
    app: Router,
    until: GracefulShutdown,
    head_timeout: Duration,
    send_timeout: Duration,
}

impl<L> Server<L> {
    /// Closes a connection over HTTP/1 on which no head of a request has come for `limit`, be it
    /// new, idle, or slow on purpose; and one over HTTP/2 whose client has not even answered a ping
    /// for so long. The default is 75 s; the range is 10 ms to 365 days, and what is outside it counts
    /// as its nearest end.
    ///
    /// Let it be more than a load balancer in front keeps its idle connections, or some of its
    /// requests will find theirs closed.
    ///
    /// What comes after the head is not limited by it: [`predict`](crate::inbound::axum::predict) takes no longer
    /// for the body than the request's deadline allows.
    pub const fn head_timeout(mut self, limit: Duration) -> Self {
        self.head_timeout = limit;
        self
    }

    /// Closes a connection whose client does not read what is sent to it for `limit`, and resets a
    /// stream of HTTP/2 whose client leaves its window shut for so long; both are noticed by twice the
    /// limit. The calls that end so are cancelled with [`Cause::ClientGone`]; the other streams of a
    /// connection go on. If no other is open, the connection is closed. The default is 60 s; the range
    /// is 10 ms to 365 days, and what is outside it counts as its nearest end.
    ///
    /// A stream whose program has nothing to send is not concerned, however long that is. A client
    /// has read something when the operating system takes more of the answer: Linux does once a third
    /// of the socket's send buffer is free. With a buffer of 4 MB, as large as Linux lets it grow by
    /// default, a client that reads less than about 22 KB/s is closed with the default limit.
    pub const fn send_timeout(mut self, limit: Duration) -> Self {
        self.send_timeout = limit;
        self
    }
}

impl<L> IntoFuture for Server<L>
where
    L: Listener,
    L::Addr: Clone + Send + Sync + 'static,
{
    type Output = io::Result<ServeReport>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}

impl<L> Server<L>
where
    L: Listener,
    L::Addr: Clone + Send + Sync + 'static,
{
    async fn run(mut self) -> io::Result<ServeReport> {
        let GracefulShutdown {
            shutdown,
            delay,
            drain,
            grace,
            signal,
            last,
            last_margin: _,
        } = self.until;
        let signal = match signal {
            Some(signal) => signal,
            None => termination()?,
        };
        let open = Connections::new(
            self.app,
            shutdown.clone(),
            self.head_timeout.clamp(SHORTEST, LONGEST),
            self.send_timeout.clamp(SHORTEST, LONGEST),
        );
        take(&mut self.listener, &open, signal).await;

        shutdown.announce();
        if !delay.is_zero() {
            tracing::info!(target: "tower_dspy", ?delay, "not ready any more, still serving");
            take(&mut self.listener, &open, sleep(delay)).await;
        }
        // Those that lie in the listener's queue would be reset with it. The limit is for clients
        // that never cease to connect.
        let limit = Deadline::within(LINGER);
        while !limit.is_past()
            && let Ok((io, peer)) = timeout(LOOK, self.listener.accept()).await
        {
            open.serve(io, peer);
        }
        drop(self.listener);

        let draining = Deadline::within(drain);
        open.closing.cancel();
        open.tasks.close();
        within(Deadline::within(LINGER.min(drain)), open.tasks.wait()).await;
        open.idle.cancel();
        let streams = async {
            if within(draining, open.tasks.wait()).await {
                return 0;
            }
            // Layers further in are to see first that a grace has begun, or they end their calls.
            while shutdown.phase() == ShutdownPhase::Draining {
                sleep(Duration::from_millis(1)).await;
            }
            open.root.cancel(Cause::Shutdown);
            if within(Deadline::within(grace), open.tasks.wait()).await {
                return 0;
            }
            let connections_cut = open.tasks.len();
            open.cut.cancel();
            within(Deadline::within(LAST_POLL), open.tasks.wait()).await;
            connections_cut
        };
        let requests = shutdown.run(draining.remaining(), grace);
        let (requests, connections_cut) = tokio::join!(requests, streams);
        if let Some(last) = last {
            last(grace).await;
        }
        Ok(ServeReport {
            requests,
            connections_cut,
            connections_failed: open.ends.failed.load(Relaxed),
            connections_flooded: open.ends.flooded.load(Relaxed),
            connections_stalled: open.ends.stalled.load(Relaxed),
            streams_stalled: open.ends.streams_stalled.load(Relaxed),
        })
    }
}

/// Takes connections until `until`.
async fn take<L>(listener: &mut L, open: &Connections, until: impl Future<Output = ()>)
where
    L: Listener,
    L::Addr: Clone + Send + Sync + 'static,
{
    let mut until = std::pin::pin!(until);
    loop {
        tokio::select! {
            biased;
            () = &mut until => return,
            (io, peer) = listener.accept() => open.serve(io, peer),
        }
    }
}

/// Whether `work` is done by `deadline`.
async fn within(deadline: Deadline, work: impl Future<Output = ()>) -> bool {
    timeout(deadline.remaining(), work).await.is_ok()
}
