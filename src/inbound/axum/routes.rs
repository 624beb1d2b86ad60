//! [`predict`] and [`predict_typed`]: a program behind a route.

use ::axum::{
    Json,
    extract::Request,
    response::{IntoResponse, Response},
    routing::{MethodRouter, post},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tower::{BoxError, Service, ServiceExt};

use super::asker::{Asker, for_tenant};
use crate::{
    call::{CallId, WithContext},
    error::{Classify, Error},
    inbound::respond::ErrorResponse,
    request::{PredictRequest, Prediction},
    service::Typed,
};

/// Answers POST requests by `service`: a JSON object of the inputs in, the [`Prediction`] out:
/// `{"outputs": {"answer": ".."}, "usage": {"total_tokens": 57, ..}, "lm_calls": 1, ..}`.
///
/// The call is given the request's [`CallContext`](crate::CallContext), and ends with it, and is made for
/// its [tenant](super#the-tenant); a body that has not come by
/// its deadline is answered by 408, and the service is not called. What the service fails with is
/// answered by the [table](crate::inbound::respond), with the id of the call, and a body that is no JSON, or larger than axum's
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
    post(move |mut asker: Asker, request: Request| async move {
        let id = asker.id();
        let answer = async {
            // Before the work begins: only then is a client that hangs up noticed.
            let inputs: Value = asker.body(request).await?;
            let prediction = service.oneshot(asker.asks(inputs)).await;
            prediction.map_err(ErrorResponse::of)
        };
        respond(id, answer.await)
    })
}

/// Answers POST requests by `service` with structs: the JSON of an `In` in, that of an `Out` out, which
/// are the outputs alone: `{"answer": ".."}`.
///
/// It is [`predict`] in all else, with the same errors in the same form. A body that is no `In` is
/// answered by 422, whose detail says where it differs, and the service is not called. Outputs that are
/// no `Out` are the program's mistake, and answered by 500.
///
/// The fields of `Out` are what clients get, so an output that is not among them stays inside; a
/// `serde_json::Value` as `In` or `Out` takes and gives all fields.
///
/// ```
/// use axum::Router;
/// use serde::{Deserialize, Serialize};
/// use serde_json::json;
/// use tower::service_fn;
/// use tower_dspy::{Error, InboundLayer, PredictRequest, Prediction, inbound::axum::predict_typed};
///
/// #[derive(Deserialize, Serialize)]
/// struct Question {
///     question: String,
/// }
///
/// #[derive(Deserialize, Serialize)]
/// struct Answer {
///     answer: String,
/// }
///
/// // In place of a program and its layers.
/// let qa = service_fn(|_: PredictRequest| async {
///     let outputs = [("answer".to_owned(), json!("Rayleigh scattering"))];
///     Ok::<_, Error>(Prediction::new(outputs.into_iter().collect()))
/// });
/// let app: Router = Router::new()
///     .route("/qa", predict_typed::<Question, Answer, _, _>(qa))
///     .layer(InboundLayer::new());
/// ```
pub fn predict_typed<In, Out, S, T>(service: S) -> MethodRouter<T>
where
    In: Serialize + DeserializeOwned + Send + 'static,
    Out: Serialize + DeserializeOwned + Send + 'static,
    S: Service<PredictRequest, Response = Prediction> + Clone + Send + Sync + 'static,
    S::Error: Classify + From<Error> + Into<BoxError>,
    S::Future: Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    post(move |mut asker: Asker, request: Request| async move {
        let id = asker.id();
        let answer = async {
            let inputs: In = asker.body(request).await?;
            let (context, tenant) = asker.into_parts();
            let service = service.map_request(move |request| for_tenant(request, tenant.clone()));
            let request = WithContext {
                request: inputs,
                context,
            };
            let outputs = Typed::<_, In, Out>::new(service).oneshot(request).await;
            outputs.map(Json).map_err(ErrorResponse::of)
        };
        respond(id, answer.await)
    })
}

/// The response of the call with this id.
fn respond(id: CallId, answer: Result<impl IntoResponse, ErrorResponse>) -> Response {
    match answer {
        Ok(answer) => (id, answer).into_response(),
        Err(failed) => failed.with_call_id(id).into_response(),
    }
}
