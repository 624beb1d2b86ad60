//! How clients ask: `POST /qa` for an answer, `POST /qa/stream` for its text as it is written.

use axum::{
    Json, Router,
    extract::State,
    response::Html,
    routing::{get, post},
};
use tower::{ServiceExt, util::BoxCloneSyncService};
use tower_dspy::{
    CallContext, Error, InboundLayer, PredictRequest, Prediction, WithContext,
    inbound::axum::stream::predict_stream, service::Typed,
};

use crate::qa::{Answer, Qa, Question};

type TypedQa = Typed<BoxCloneSyncService<PredictRequest, Prediction, Error>, Question, Answer>;

pub fn router(qa: Qa) -> Router {
    let typed: TypedQa = Typed::new(qa.whole.clone());
    Router::new()
        .route("/", get(|| async { Html(include_str!("page.html")) }))
        .route("/qa", post(ask).with_state(typed))
        .route("/qa/stream", predict_stream(qa.whole, qa.streaming))
        // The deadline of a client, by `x-request-timeout`; a client that hangs up cancels its call.
        .layer(InboundLayer::new())
}

async fn ask(
    State(qa): State<TypedQa>,
    context: CallContext,
    Json(question): Json<Question>,
) -> Result<Json<Answer>, Error> {
    let request = WithContext {
        request: question,
        context,
    };
    qa.oneshot(request).await.map(Json)
}
