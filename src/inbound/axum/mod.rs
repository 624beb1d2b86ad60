//! A program behind a route of axum, and what handlers of your own need (feature `axum`).
//!
//! [`CallContext`] is an extractor, and [`Error`] and [`ErrorResponse`] are responses, of
//! `application/problem+json` by the [table](super::respond). [`predict`] and [`predict_typed`] are whole
//! handlers, [`stream`] has those that answer as the program writes, [`cancel_call`] cancels a call by
//! its id; [`server`](crate::server) ends in bounded time.
//!
//! # The tenant
//! The routes of programs, those of [`stream`] too, make their calls for the [`Tenant`](crate::Tenant) in
//! the request's extensions, and without one for nobody. A layer of yours that knows who asks puts it
//! there; nothing that the client writes is taken for it.
//!
//! ```
//! use axum::{Router, extract::Request, http::{StatusCode, header}, middleware};
//! use tower::{Service, ServiceBuilder};
//! use tower_dspy::{
//!     Error, InboundLayer, PredictRequest, Prediction, Tenant, inbound::axum::predict,
//! };
//!
//! /// Your authentication.
//! async fn authenticate(mut request: Request) -> Result<Request, StatusCode> {
//!     let tenant = match request.headers().get(header::AUTHORIZATION).map(|key| key.as_bytes()) {
//!         Some(b"Bearer key-of-acme") => Tenant::new("acme"),
//!         _ => return Err(StatusCode::UNAUTHORIZED),
//!     };
//!     request.extensions_mut().insert(tenant);
//!     Ok(request)
//! }
//!
//! # fn app<S>(qa: S) -> Router
//! # where
//! #     S: Service<PredictRequest, Response = Prediction, Error = Error> + Clone + Send + Sync + 'static,
//! #     S::Future: Send,
//! # {
//! let layers = ServiceBuilder::new()
//!     .layer(InboundLayer::new())
//!     .layer(middleware::map_request(authenticate));
//! let app: Router = Router::new().route("/qa", predict(qa)).layer(layers);
//! # app
//! # }
//! ```

mod asker;
mod cancel_call;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(all(feature = "openapi", feature = "_host"))]
mod openapi;
mod predict;
#[cfg(feature = "_host")]
mod predict_typed;
mod prediction;
pub mod stream;

use std::convert::Infallible;

use ::axum::{
    extract::FromRequestParts,
    response::{IntoResponse, IntoResponseParts, Response, ResponseParts},
    routing::{MethodRouter, get},
};
use http::{StatusCode, request::Parts};

pub use self::cancel_call::cancel_call;
#[cfg(feature = "debug-page")]
pub(crate) use self::cancel_call::cancelled;
#[cfg(feature = "metrics")]
pub use self::metrics::{InstallError, PrometheusMetrics};
#[cfg(all(feature = "openapi", feature = "_host"))]
#[cfg_attr(
    docsrs,
    doc(cfg(all(feature = "openapi", any(feature = "python", feature = "workers"))))
)]
pub use self::openapi::Programs;
pub use self::predict::predict;
#[cfg(feature = "_host")]
#[cfg_attr(docsrs, doc(cfg(any(feature = "python", feature = "workers"))))]
pub use self::predict_typed::predict_typed;
use super::respond::ErrorResponse;
use crate::{
    call::{CallContext, CallId},
    error::Error,
};

/// What [`InboundLayer`](crate::InboundLayer) and the layers after it made of the request; without
/// them, a context without limits.
impl<S: Sync> FromRequestParts<S> for CallContext {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

/// Puts the id into the header [`x-call-id`](CallId::HEADER): `(context.id(), body)` is a response.
impl IntoResponseParts for CallId {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        let headers = parts.headers_mut();
        headers.insert(Self::HEADER, self.header_value());
        Ok(parts)
    }
}

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        self.into_http().map(::axum::body::Body::from)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        IntoResponse::into_response(ErrorResponse::of(self))
    }
}

/// Answers GET requests by 200 while `is_ready`, and by 503 while it is not: for `/readyz`.
///
/// Put it beside the layers, not below a [`ShutdownLayer`](crate::ShutdownLayer), which would count
/// each probe as a call.
///
/// ```
/// use axum::Router;
/// use tower_dspy::{Shutdown, inbound::axum::readiness};
///
/// let shutdown = Shutdown::new();
/// let ready = shutdown.clone();
/// let app: Router = Router::new().route("/readyz", readiness(move || ready.is_ready()));
/// ```
///
/// A host has one of its own, `Host::readiness` (features `python` or `workers`).
pub fn readiness<F, T>(is_ready: F) -> MethodRouter<T>
where
    F: Fn() -> bool + Clone + Send + Sync + 'static,
    T: Clone + Send + Sync + 'static,
{
    get(move || async move {
        if is_ready() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        }
    })
}

/// Answers by 200, for `/livez`: that the process runs, whatever its load and however its host is.
///
/// A process that is only busy, or whose program blocks, is not to be killed for it: that is what
/// [`readiness`] is for.
#[expect(clippy::unused_async, reason = "axum's handlers are async")]
pub async fn liveness() -> StatusCode {
    StatusCode::OK
}
