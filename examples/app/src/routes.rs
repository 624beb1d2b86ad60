//! How clients ask: `POST /qa` for an answer, `POST /qa/stream` for its text as it is written.

use axum::{Router, response::Html, routing::get};
use tower_dspy::{
    InboundLayer,
    inbound::axum::{predict_typed, stream::predict_stream},
};

use crate::qa::{Answer, Qa, Question};

pub fn router(qa: Qa) -> Router {
    let whole = predict_typed::<Question, Answer, _, _>(qa.whole.clone());
    Router::new()
        .route("/", get(|| async { Html(include_str!("page.html")) }))
        .route("/qa", whole)
        .route("/qa/stream", predict_stream(qa.whole, qa.streaming))
        // The deadline of a client, by `x-request-timeout`; a client that hangs up cancels its call.
        .layer(InboundLayer::new())
}
