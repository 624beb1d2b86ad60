//! [`predict_stream`]: a prediction as JSON, or as it is written in the dialect of this crate.

use ::axum::{
    extract::Request,
    response::IntoResponse,
    routing::{MethodRouter, post},
};
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::{Map, Value};
use tower::{BoxError, Service, ServiceExt};

use super::{
    accept::prefers_event_stream,
    event_stream::{StreamDialect, respond},
    failure::StreamFailure,
    options::StreamOptions,
    sse_queue::SseQueue,
};
use crate::{
    error::Classify,
    inbound::{
        axum::{asker::Asker, prediction::PredictionBody},
        respond::{ErrorResponse, Problem},
    },
    request::{PredictRequest, Prediction},
    stream::{PredictionStream, StreamEvent},
};

/// Answers POST requests by `whole`, as [`predict`](crate::inbound::axum::predict) does, or, if the
/// `Accept` header prefers `text/event-stream`, with the [events](self::super) of `streaming`.
///
/// An `Accept` header that names both at the same quality, or none of them, gets JSON.
///
/// ```
/// use std::time::Duration;
/// use axum::Router;
/// use futures_util::stream;
/// use serde_json::json;
/// use tower::service_fn;
/// use tower_dspy::{
///     Error, InboundLayer, PredictRequest, Prediction, PredictionStream, StreamEvent,
///     inbound::axum::stream::predict_stream,
/// };
///
/// // In place of a program `qa` and `qa.streaming()`.
/// let answer = || {
///     let outputs = [("answer".to_owned(), json!("Rayleigh scattering"))];
///     Prediction::new(outputs.into_iter().collect())
/// };
/// let whole = service_fn(move |_: PredictRequest| async move { Ok::<_, Error>(answer()) });
/// let streaming = service_fn(move |_: PredictRequest| async move {
///     let text = StreamEvent::Text {
///         lm_call: 1,
///         predictor: "self".into(),
///         field: "answer".into(),
///         delta: "Rayleigh scattering".into(),
///     };
///     let events = [Ok(text), Ok(StreamEvent::Done(Box::new(answer())))];
///     Ok::<_, Error>(PredictionStream::new(stream::iter(events)))
/// });
/// let app: Router = Router::new()
///     .route("/qa", predict_stream(whole, streaming))
///     .layer(InboundLayer::new().max(Duration::from_secs(30)));
/// ```
pub fn predict_stream<W, S, T>(whole: W, streaming: S) -> MethodRouter<T>
where
    W: Service<PredictRequest, Response = Prediction> + Clone + Send + Sync + 'static,
    W::Error: Classify + Into<BoxError>,
    W::Future: Send,
    S: Service<PredictRequest, Response = PredictionStream> + Clone + Send + Sync + 'static,
    S::Error: Classify + Into<BoxError>,
    S::Future: Send,
    T: Clone + Send + Sync + 'static,
{
    StreamOptions::new().predict_stream(whole, streaming)
}

impl StreamOptions {
    /// [`predict_stream`](predict_stream()) with these options.
    pub fn predict_stream<W, S, T>(self, whole: W, streaming: S) -> MethodRouter<T>
    where
        W: Service<PredictRequest, Response = Prediction> + Clone + Send + Sync + 'static,
        W::Error: Classify + Into<BoxError>,
        W::Future: Send,
        S: Service<PredictRequest, Response = PredictionStream> + Clone + Send + Sync + 'static,
        S::Error: Classify + Into<BoxError>,
        S::Future: Send,
        T: Clone + Send + Sync + 'static,
    {
        post(move |mut asker: Asker, request: Request| async move {
            let id = asker.id();
            let answer = async {
                let streams = prefers_event_stream(request.headers());
                // The body is read first, as hyper reports a disconnect only after that.
                let inputs: Value = asker.body(request).await?;
                let request = asker.asks(inputs);
                if streams {
                    return Ok(respond(streaming, request, PredictEvents, self).await);
                }
                let whole = whole.oneshot(request).await;
                let whole = whole.map_err(ErrorResponse::of)?;
                Ok((id, whole).into_response())
            };
            answer
                .await
                .map_err(|failed: ErrorResponse| failed.with_call_id(id))
        })
    }
}

/// This crate's own dialect.
struct PredictEvents;

impl StreamDialect for PredictEvents {
    const HEADER: Option<(HeaderName, HeaderValue)> = Some((
        HeaderName::from_static("x-tower-dspy-stream"),
        HeaderValue::from_static("v1"),
    ));

    fn write(&mut self, event: StreamEvent, out: &mut SseQueue) -> Result<(), StreamFailure> {
        match event {
            StreamEvent::Done(prediction) => out.named("done", &PredictionBody::of(*prediction)),
            event => {
                if let Some((name, data)) = EventData::of(&event) {
                    out.named(name, &data);
                }
            }
        }
        Ok(())
    }

    fn fail(&mut self, failure: StreamFailure, out: &mut SseQueue) {
        let retry_after = failure.response.retry_after();
        out.named(
            "error",
            &ErrorData {
                problem: failure.response.problem(),
                retry_after_ms: retry_after.map(|wait| wait.as_millis()),
                partial: failure.partial,
            },
        );
    }
}

/// The data of an event that is not the last.
#[derive(Serialize)]
#[serde(untagged)]
enum EventData<'a> {
    Text {
        lm_call: u64,
        predictor: &'a str,
        field: &'a str,
        delta: &'a str,
    },
    Thinking {
        lm_call: u64,
        predictor: &'a str,
        delta: &'a str,
    },
    Replace {
        lm_call: u64,
        predictor: &'a str,
        field: &'a str,
        text: &'a str,
    },
    Restart {
        lm_call: u64,
        predictor: &'a str,
    },
    Status {
        message: &'a str,
    },
    ToolCall {
        id: u64,
        name: &'a str,
        arguments: &'a Value,
    },
    ToolResult {
        id: u64,
        name: &'a str,
        result: &'a Value,
    },
    ToolError {
        id: u64,
        name: &'a str,
        error: &'a str,
    },
}

impl<'a> EventData<'a> {
    /// The event's name and data; `None` for the last one, which is not borrowed.
    fn of(event: &'a StreamEvent) -> Option<(&'static str, Self)> {
        Some(match event {
            StreamEvent::Text {
                lm_call,
                predictor,
                field,
                delta,
            } => (
                "text",
                Self::Text {
                    lm_call: *lm_call,
                    predictor,
                    field,
                    delta,
                },
            ),
            StreamEvent::Thinking {
                lm_call,
                predictor,
                delta,
            } => (
                "thinking",
                Self::Thinking {
                    lm_call: *lm_call,
                    predictor,
                    delta,
                },
            ),
            StreamEvent::Replace {
                lm_call,
                predictor,
                field,
                text,
            } => (
                "replace",
                Self::Replace {
                    lm_call: *lm_call,
                    predictor,
                    field,
                    text,
                },
            ),
            StreamEvent::Restart { lm_call, predictor } => (
                "restart",
                Self::Restart {
                    lm_call: *lm_call,
                    predictor,
                },
            ),
            StreamEvent::Status { message } => ("status", Self::Status { message }),
            StreamEvent::ToolCall {
                id,
                name,
                arguments,
            } => (
                "tool_call",
                Self::ToolCall {
                    id: *id,
                    name,
                    arguments,
                },
            ),
            StreamEvent::ToolResult { id, name, result } => {
                let id = *id;
                let data = match result {
                    Ok(result) => Self::ToolResult { id, name, result },
                    Err(error) => Self::ToolError { id, name, error },
                };
                ("tool_result", data)
            }
            StreamEvent::Done(_) => return None,
        })
    }
}

/// The data of an event that says how the stream failed.
#[derive(Serialize)]
struct ErrorData<'a> {
    #[serde(flatten)]
    problem: Problem<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partial: Option<Map<String, Value>>,
}
