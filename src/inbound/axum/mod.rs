//! A program behind a route of axum, and what handlers of your own need (feature `axum`).
//!
//! [`CallContext`] is an extractor, and [`Error`] and [`ErrorResponse`] are responses, of
//! `application/problem+json` by the [table](super::respond). [`predict`] is the whole
//! handler, [`stream`] has those that answer as the program writes, [`cancel_call`] cancels a call by
//! its id; [`server`](crate::server) ends in bounded time.

mod cancel_call;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(all(feature = "openapi", feature = "_host"))]
mod openapi;
mod prediction;
pub mod stream;

use std::{convert::Infallible, future::poll_fn, pin::pin};

use ::axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Request, rejection::JsonRejection},
    response::{IntoResponse, IntoResponseParts, Response, ResponseParts},
    routing::{MethodRouter, get, post},
};
use http::{StatusCode, request::Parts};
use serde_json::Value;
use tower::{BoxError, Service, ServiceExt};

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
use super::respond::ErrorResponse;
use crate::{
    call::{
        CallContext, CallId,
        termination::{Terminated, Termination},
    },
    error::{Cancelled, Classify, Error},
    request::{PredictRequest, Prediction},
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

/// Answers POST requests by `service`: a JSON object of the inputs in, the [`Prediction`] out:
/// `{"outputs": {"answer": ".."}, "usage": {"total_tokens": 57, ..}, "lm_calls": 1, ..}`.
///
/// The call is given the request's [`CallContext`], and ends with it; a body that has not come by
/// its deadline is answered by 408, and the service is not called. What the service fails with is
/// answered by the [table](super::respond), with the id of the call, and a body that is no JSON, or larger than axum's
/// `DefaultBodyLimit` (2 MB, unless you set another), with axum's status for that, in the same form.
///
/// ```
/// use std::time::Duration;
/// use axum::Router;
/// use serde_json::json;
/// use tower::ServiceBuilder;
/// use tower_dspy::{
///     DeadlineLayer, Error, InboundLayer, PredictRequest, Prediction, inbound::axum::predict,
/// };
///
/// let qa = ServiceBuilder::new()
///     .layer(DeadlineLayer::new(Duration::from_secs(10)))
///     .service_fn(|_: PredictRequest| async {
///         let outputs = [("answer".to_owned(), json!("Rayleigh scattering"))];
///         Ok::<_, Error>(Prediction::new(outputs.into_iter().collect()))
///     });
/// let app: Router = Router::new()
///     .route("/qa", predict(qa))
///     .layer(InboundLayer::new().max(Duration::from_secs(30)));
/// ```
pub fn predict<S, T>(service: S) -> MethodRouter<T>
where
    S: Service<PredictRequest, Response = Prediction> + Clone + Send + Sync + 'static,
    S::Error: Classify + Into<BoxError>,
    S::Future: Send,
    T: Clone + Send + Sync + 'static,
{
    // The body is read before the work begins: only then is a client that hangs up noticed.
    post(
        move |mut context: CallContext, request: Request| async move {
            let id = context.id();
            let answer = async {
                let inputs = inputs(&context, request).await?;
                let request = PredictRequest::new(inputs).with_context(context);
                service.oneshot(request).await.map_err(ErrorResponse::of)
            };
            match answer.await {
                Ok(prediction) => Ok((id, prediction)),
                Err(failed) => Err(failed.with_call_id(id)),
            }
        },
    )
}

/// The body of `request`, if it comes before the call has to end.
async fn inputs(context: &CallContext, request: Request) -> Result<Value, ErrorResponse> {
    let mut end = pin!(Termination::new(context.cancel.clone(), context.deadline));
    let read = tokio::select! {
        biased;
        read = Json::from_request(request, &()) => read,
        end = poll_fn(|cx| end.as_mut().poll(cx)) => return Err(match end {
            Terminated::Cancelled(cause) => ErrorResponse::of(Error::from(Cancelled::new(cause))),
            Terminated::DeadlinePassed => ErrorResponse::slow_body(),
        }),
    };
    let refused = |refused: JsonRejection| match context.deadline {
        // The server has ended the body for it.
        Some(deadline) if deadline.is_past() && is_cut(&refused) => ErrorResponse::slow_body(),
        _ => ErrorResponse::refused(refused.status(), refused.body_text()),
    };
    let Json(inputs) = read.map_err(refused)?;
    Ok(inputs)
}

/// Whether the body broke off, and was not too large or no JSON.
fn is_cut(refused: &JsonRejection) -> bool {
    matches!(refused, JsonRejection::BytesRejection(_))
        && refused.status() != StatusCode::PAYLOAD_TOO_LARGE
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
/// A host has one of its own, `Host::readiness` (feature `python`).
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
