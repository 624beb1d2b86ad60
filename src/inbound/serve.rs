//! [`Serve`]: our layers around a server's infallible services.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::{BoxError, Layer, Service};

use super::{body::OrErrorBody, protocol::Protocol, respond::ErrorResponse};
use crate::error::Classify;

/// Puts layers whose errors are ours around a service that has none, and answers for them.
///
/// axum's `Router::layer` and tonic's `Server::layer` wrap services whose error is [`Infallible`],
/// and want such a service back. The layers of this crate, and tower's timeout, load shed and
/// buffer, raise errors. Between the two, this layer gives the service below an error type, a
/// [`BoxError`], and turns errors that come out on top into responses, by the one table of
/// statuses, [`respond`](super::respond): in HTTP's form, or in gRPC's if the request was gRPC.
///
/// ```
/// use std::time::Duration;
/// use axum::{Router, routing::get};
/// use tower::ServiceBuilder;
/// use tower_dspy::{DeadlineLayer, Serve, Shutdown, ShutdownLayer};
///
/// let shutdown = Shutdown::new();
/// let app: Router = Router::new()
///     .route("/", get(|| async { "hello" }))
///     .layer(Serve::new((
///         ShutdownLayer::new(shutdown.clone()),
///         DeadlineLayer::new(Duration::from_secs(10)),
///     )));
///
/// // The same in tonic, with a ServiceBuilder in place of the tuple.
/// let layers = ServiceBuilder::new()
///     .layer(ShutdownLayer::new(shutdown))
///     .layer(DeadlineLayer::new(Duration::from_secs(10)))
///     .into_inner();
/// let server = tonic::transport::Server::builder().layer(Serve::new(layers));
/// ```
///
/// Layers of tower and tower-http go inside as well as outside: inside, if they raise errors or
/// are to see ours as errors; outside, if they are to see our errors as responses, as
/// tower-http's `TraceLayer` does.
///
/// # What it demands
/// Of the inner service: requests and responses of [`http`], and the error [`Infallible`]. Of the
/// layers: an error that is [`Classify`], such as [`BoxError`]. Layers that repeat a request, as
/// retry and hedge do, need one that is `Clone`, which a server's request with its body is not: put
/// those around the program, behind the handler.
///
/// # What it limits
/// The time until the head of the response. A body that is streamed comes after that.
///
/// # Readiness
/// The layers are asked whether they are ready before each call, and a limit of calls among them,
/// such as tower's `ConcurrencyLimitLayer`, makes the server wait there, for as long as it takes. A
/// [`DeadlineLayer`](crate::DeadlineLayer) outside it bounds the wait. Where the layers fail while
/// getting ready, the next call is answered with that error.
///
/// # One for each route
/// axum's `Router::layer` applies its layer to each route: a limit of calls is then each route's
/// own. For one that they share, use tower's `GlobalConcurrencyLimitLayer`. What is shared by
/// handle, such as [`Shutdown`](crate::Shutdown) and [`Tracker`](crate::Tracker), stays one. A router
/// that is called rather than served, as in a test, needs `with_state(())` after its layers: before
/// that, axum makes them anew for each call, and a limit in them limits nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serve<L> {
    layers: L,
}

impl<L> Serve<L> {
    /// Around whatever is below come `layers`: one, a tuple of them, or a `ServiceBuilder`'s
    /// `into_inner()`, the first outermost.
    #[must_use]
    pub const fn new(layers: L) -> Self {
        Self { layers }
    }
}

impl<S, L: Layer<Lift<S>>> Layer<S> for Serve<L> {
    type Service = Served<L::Service>;

    fn layer(&self, inner: S) -> Self::Service {
        Served::new(self.layers.layer(Lift { inner }))
    }
}

/// Answers the errors of the layers inside it; see [`Serve`].
#[derive(Debug)]
pub struct Served<S> {
    inner: S,
    refused: Option<ErrorResponse>,
}

impl<S> Served<S> {
    /// Answers the errors of `inner`, which is any stack over requests of [`http`].
    #[must_use]
    pub const fn new(inner: S) -> Self {
        Self {
            inner,
            refused: None,
        }
    }

    /// The layers, with what they are around.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The same, mutably.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Gives the layers back, with what they are around.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

/// A failure to get ready belongs to the one that saw it.
impl<S: Clone> Clone for Served<S> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone())
    }
}

/// The body of what the service below answered, or of what [`Serve`] did.
pub type ServedBody<B> = OrErrorBody<B>;

impl<S, B, T> Service<Request<B>> for Served<S>
where
    S: Service<Request<B>, Response = Response<T>>,
    S::Error: Classify + Into<BoxError>,
{
    type Response = Response<ServedBody<T>>;
    type Error = Infallible;
    type Future = ServedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Not polled again: a service that has failed may not be.
        if self.refused.is_none()
            && let Err(error) = ready!(self.inner.poll_ready(cx))
        {
            self.refused = Some(ErrorResponse::of(error));
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let protocol = Protocol::of(request.headers());
        let refused = self.refused.take();
        ServedFuture {
            inner: refused.is_none().then(|| self.inner.call(request)),
            refused,
            protocol,
        }
    }
}

pin_project! {
    /// The response future of [`Served`].
    pub struct ServedFuture<F> {
        #[pin]
        inner: Option<F>,
        // In the place of `inner`.
        refused: Option<ErrorResponse>,
        protocol: Protocol,
    }
}

impl<F, T, E> Future for ServedFuture<F>
where
    F: Future<Output = Result<Response<T>, E>>,
    E: Classify + Into<BoxError>,
{
    type Output = Result<Response<ServedBody<T>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = match this.inner.as_pin_mut() {
            Some(inner) => match ready!(inner.poll(cx)) {
                Ok(response) => return Poll::Ready(Ok(response.map(OrErrorBody::inner))),
                Err(error) => ErrorResponse::of(error),
            },
            None => match this.refused.take() {
                Some(refused) => refused,
                // Polled again after it was ready.
                None => return Poll::Pending,
            },
        };
        let response = answer.into_protocol(*this.protocol);
        Poll::Ready(Ok(response.map(OrErrorBody::error)))
    }
}

impl<F> fmt::Debug for ServedFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServedFuture").finish_non_exhaustive()
    }
}

/// A service that cannot fail, as one whose error is a [`BoxError`]; what [`Serve`] puts below its
/// layers.
#[derive(Clone, Copy, Debug)]
pub struct Lift<S> {
    inner: S,
}

impl<S> Lift<S> {
    /// `inner`, as a service that might fail.
    #[must_use]
    pub const fn new(inner: S) -> Self {
        Self { inner }
    }

    /// The service that cannot fail.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The same, mutably.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Gives the service that cannot fail back.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, R> Service<R> for Lift<S>
where
    S: Service<R, Error = Infallible>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = LiftFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(|never| match never {})
    }

    fn call(&mut self, request: R) -> Self::Future {
        LiftFuture {
            inner: self.inner.call(request),
        }
    }
}

pin_project! {
    /// The response future of [`Lift`].
    pub struct LiftFuture<F> {
        #[pin]
        inner: F,
    }
}

impl<F, T> Future for LiftFuture<F>
where
    F: Future<Output = Result<T, Infallible>>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.project().inner.poll(cx);
        polled.map_err(|never| match never {})
    }
}

impl<F> fmt::Debug for LiftFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiftFuture").finish_non_exhaustive()
    }
}
