//! [`predict_typed`]: a program behind a route, with structs as its inputs and outputs.

use ::axum::{
    Json,
    extract::Request,
    routing::{MethodRouter, post},
};
use serde::{Serialize, de::DeserializeOwned};
use tower::{BoxError, Service, ServiceExt};

use super::{
    asker::{Asker, for_tenant},
    predict::respond,
};
use crate::{
    call::WithContext,
    error::{Classify, Error},
    inbound::respond::ErrorResponse,
    request::{PredictRequest, Prediction},
    service::Typed,
};

/// Answers POST requests by `service` with structs: the JSON of an `In` in, that of an `Out` out, which
/// are the outputs alone: `{"answer": ".."}`.
///
/// It is [`predict`](super::predict) in all else, with the same errors in the same form. A body that is no `In` is
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
