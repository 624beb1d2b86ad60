//! [`predict`]: a program behind a route.

use ::axum::{
    extract::Request,
    response::{IntoResponse, Response},
    routing::{MethodRouter, post},
};
use serde_json::Value;
use tower::{BoxError, Service, ServiceExt};

use super::asker::Asker;
use crate::{
    call::CallId,
    error::Classify,
    inbound::respond::ErrorResponse,
    request::{PredictRequest, Prediction},
};

/// Answers POST requests by `service`: a JSON object of the inputs in, the [`Prediction`] out:
/// `{"outputs": {"answer": ".."}, "usage": {"total_tokens": 57, ..}, "lm_calls": 1, ..}`.
///
/// The call is given the request's [`CallContext`](crate::CallContext), and ends with it, and is made for
/// its [tenant](super#the-tenant); a body that has not come by its deadline is answered by 408, and the service
/// is not called. What the service fails with is answered by the [table](crate::inbound::respond), with
/// the id of the call, and a body that is no JSON, or larger than axum's `DefaultBodyLimit` (2 MB, unless
/// you set another), with axum's status for that, in the same form.
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
    post(move |mut asker: Asker, request: Request| async move {
        let id = asker.id();
        let answer = async {
            // The body is read first, as hyper reports a disconnect only after that.
            let inputs: Value = asker.body(request).await?;
            let prediction = service.oneshot(asker.asks(inputs)).await;
            prediction.map_err(ErrorResponse::of)
        };
        respond(id, answer.await)
    })
}

/// The response of the call with this id.
pub(super) fn respond(id: CallId, answer: Result<impl IntoResponse, ErrorResponse>) -> Response {
    match answer {
        Ok(answer) => (id, answer).into_response(),
        Err(failed) => failed.with_call_id(id).into_response(),
    }
}
