//! The server: connections, routes, and the thread it all runs on.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;

use super::body::ReplyBody;
use super::dialects;
use super::ledger::RequestLedger;
use super::play::play;
use super::record::RequestRecord;
use super::request::{ChatRequest, Dialect, Endpoint};

/// A server at work. Dropping it stops it and waits until its socket is closed.
#[derive(Debug)]
pub(super) struct ScriptedServer {
    pub(super) address: SocketAddr,
    pub(super) runtime: Handle,
    /// The thread ends when this is dropped.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl ScriptedServer {
    /// Starts a thread with a runtime of its own: the caller's runtime may end before the server,
    /// which many tests share, and its clock may be paused.
    pub(super) async fn start(ledger: RequestLedger, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, start) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("scripted-lm".to_owned())
            .spawn(
                move || match runtime::Builder::new_current_thread().enable_all().build() {
                    Err(error) => drop(started.send(Err(error))),
                    Ok(runtime) => {
                        let _ = started.send(Ok(runtime.handle().clone()));
                        let _ = runtime.block_on(stopped);
                    }
                },
            )?;
        let runtime: Handle = start.await.map_err(io::Error::other)??;
        let bind = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = runtime.spawn(bind).await??;
        let address = listener.local_addr()?;
        runtime.spawn(accept(listener, ledger, tls));
        Ok(Self {
            address,
            runtime,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It fails if the thread panicked, and then it has ended too.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, ledger: RequestLedger, tls: Option<TlsAcceptor>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // For example no file descriptor is left: connections have to close first.
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        // Tokens are small, and are not to wait for each other.
        let _ = stream.set_nodelay(true);
        let connected = ledger.connect();
        let (ledger, tls) = (ledger.clone(), tls.clone());
        tokio::spawn(async move {
            let _connected = connected;
            let stream = match tls {
                None => Either::Left(stream),
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => Either::Right(stream),
                    // A client that does not trust the certificate goes away.
                    Err(_) => return,
                },
            };
            converse(stream, ledger).await;
        });
    }
}

/// Serves one connection until it ends.
///
/// While a reply is at work hyper reads on, sees the end of the stream at once and drops the
/// work. A client that only shuts down its writing half counts as gone too. One that sends a
/// second request before the first is answered is seen to be gone only when a write fails.
async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, ledger: RequestLedger) {
    let service = service_fn(|request| {
        let ledger = ledger.clone();
        async move { Ok::<_, Infallible>(route(request, ledger).await) }
    });
    // An error is a client gone or a cut, and both are recorded by then.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn route(request: Request<Incoming>, ledger: RequestLedger) -> Response<ReplyBody> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let below = path.strip_prefix("/v1");
    if method == Method::POST
        && let Some(endpoint) = below.and_then(Endpoint::at)
    {
        return chat(&endpoint, request, ledger).await;
    }
    if method == Method::GET && below == Some("/models") {
        return full(StatusCode::OK, dialects::models(&ledger.models()));
    }
    let why = format!("no {method} {path} here");
    refuse(Dialect::OpenAi, StatusCode::NOT_FOUND, &why)
}

async fn chat(
    endpoint: &Endpoint<'_>,
    request: Request<Incoming>,
    ledger: RequestLedger,
) -> Response<ReplyBody> {
    let at = Instant::now();
    let bad = |why: &str| refuse(endpoint.dialect, StatusCode::BAD_REQUEST, why);
    let (head, body) = request.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return bad(&error.to_string()),
    };
    let request = match ChatRequest::parse(endpoint, &body) {
        Ok(request) => request,
        Err(error) => return bad(&error.to_string()),
    };
    let authorization = endpoint.dialect.credential(&head.headers);
    let (reply, entry) = ledger.arrive(RequestRecord::new(at, &request, authorization));
    play(reply, request, entry).await
}

fn refuse(dialect: Dialect, status: StatusCode, why: &str) -> Response<ReplyBody> {
    full(status, dialects::error_body(dialect, why, status.as_u16()))
}

fn full(status: StatusCode, body: Bytes) -> Response<ReplyBody> {
    let mut response = Response::new(
        Full::new(body)
            .map_err(|never| match never {})
            .boxed_unsync(),
    );
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
