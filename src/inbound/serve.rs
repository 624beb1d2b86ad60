//! [`Serve`]: our layers around a server's infallible services.

use std::{
    convert::Infallible,
    task::{Context, Poll, ready},
};

use futures_util::{
    FutureExt,
    future::{self, BoxFuture},
};
use http::{Request, Response};
use tower::{BoxError, Layer, Service, util::MapErr};

use super::{body::OrErrorBody, protocol::Protocol, respond::ErrorResponse};
use crate::{call::Carrier, error::Classify};

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
/// layers: futures that are `Send` and `'static`, and an error that is [`Classify`], such as
/// [`BoxError`]. Layers that repeat a request, as retry and hedge do, need a request that is `Clone`.
/// A server's request is not, because of its body: put these layers around the program, behind the
/// handler.
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

impl<S, L: Layer<Fallible<S>>> Layer<S> for Serve<L> {
    type Service = Served<L::Service>;

    fn layer(&self, inner: S) -> Self::Service {
        Served {
            inner: self
                .layers
                .layer(MapErr::new(inner, |never| match never {})),
            refused: None,
        }
    }
}

/// A service that cannot fail, as one whose error is a [`BoxError`].
type Fallible<S> = MapErr<S, fn(Infallible) -> BoxError>;

/// Answers the errors of the layers inside it; see [`Serve`].
#[derive(Debug)]
pub struct Served<S> {
    inner: S,
    refused: Option<ErrorResponse>,
}

/// A failure to get ready belongs to the one that saw it.
impl<S: Clone> Clone for Served<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            refused: None,
        }
    }
}

impl<S, B, T> Service<Request<B>> for Served<S>
where
    S: Service<Request<B>, Response = Response<T>>,
    S::Error: Classify + Into<BoxError>,
    S::Future: Send + 'static,
    T: Send + 'static,
{
    type Response = Response<OrErrorBody<T>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

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
        let id = request.context().and_then(|context| context.call_id);
        let refuse = move |mut refused: ErrorResponse| {
            if let Some(id) = id {
                refused = refused.with_call_id(id);
            }
            let response = refused.into_protocol(protocol);
            response.map(OrErrorBody::error)
        };
        if let Some(refused) = self.refused.take() {
            return future::ready(Ok(refuse(refused))).fuse().boxed();
        }
        let answer = self.inner.call(request).map(move |answer| {
            Ok(match answer {
                Ok(response) => response.map(OrErrorBody::inner),
                Err(error) => refuse(ErrorResponse::of(error)),
            })
        });
        answer.fuse().boxed()
    }
}
