//! [`ui_messages`]: the UI message stream of Vercel's AI SDK.

mod chunk;
mod message;
mod parts;
mod writer;

use ::axum::{
    extract::Request,
    response::IntoResponse,
    routing::{MethodRouter, post},
};
use http::StatusCode;
use tower::{BoxError, Service};

use self::writer::UiMessageWriter;
use super::{chat::ChatFields, event_stream::respond, options::StreamOptions};
use crate::{
    error::Classify,
    inbound::{axum::asker::Asker, respond::ErrorResponse},
    request::PredictRequest,
    stream::PredictionStream,
};

/// Answers the POST requests of `useChat`, with its default transport, by the UI message stream of
/// Vercel's AI SDK: version 1 of the
/// [protocol](https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol), as npm `ai` 7 reads it.
///
/// ```
/// use std::time::Duration;
/// use axum::Router;
/// use futures_util::stream;
/// use tower::service_fn;
/// use tower_dspy::{
///     Error, InboundLayer, PredictRequest, PredictionStream, StreamEvent,
///     inbound::axum::stream::{ChatFields, ui_messages},
/// };
///
/// // In place of `qa.streaming()`.
/// let streaming = service_fn(|_: PredictRequest| async {
///     let done = StreamEvent::Done(Box::default());
///     Ok::<_, Error>(PredictionStream::new(stream::iter([Ok(done)])))
/// });
/// let fields = ChatFields::new("question", "answer").history("history");
/// let app: Router = Router::new()
///     .route("/api/chat", ui_messages(streaming, fields))
///     .layer(InboundLayer::new().max(Duration::from_secs(60)));
/// ```
///
/// # Chunks
/// | event | chunks |
/// |---|---|
/// | the first | `start` |
/// | the first of an LM call | `finish-step` if there was a step, `start-step` |
/// | text of the answer | `text-start`, `text-delta`, `text-end` with the id `{lm_call}.{field}` |
/// | thinking, and fields that [`ChatFields::reasoning`] names | `reasoning-start`, .. with the id `{lm_call}:thinking`, `{lm_call}.{field}` |
/// | text of other fields | none; see `data-prediction` |
/// | a tool call and its result | `tool-input-available`, `tool-output-available` or `tool-output-error`: `dynamic`, `providerExecuted` |
/// | a status | `data-status` `{"message": ".."}`, transient: for `onData` |
/// | the prediction | `data-prediction` with the JSON of [`predict`](crate::inbound::axum::predict()), `finish`, `[DONE]` |
/// | a failure | `data-error` with the members of `application/problem+json`, `call_id` among them, `transient`; `error` with the detail, `[DONE]`; before it `abort` with the reason if it was `deadline`, `elapsed`, `cancelled` or `shutting_down`; no `finish` |
///
/// `useChat` ignores `abort` alone and would show a stream that a limit ended as a whole one, so `error`
/// follows it.
///
/// The error of a tool is the text of its exception; [`StreamOptions::without_tools`] keeps it from the
/// client.
///
/// # Text that does not hold
/// The message ends with the answer of the prediction, whole and once. What was shown of it and does
/// not hold is taken back: after a restart, for a replacement that is no continuation, when a later LM
/// call writes the answer anew, as within `dspy.BestOfN`, and when the prediction has another answer.
///
/// - `reset-step` removes the parts of the step, and those that hold are sent again.
/// - If that cannot be, because the part is in an earlier step or the step has tools or a
///   `data-restart`, there is `data-restart` `{"parts": ["1.answer"]}` with the ids of the parts that
///   do not hold. `useChat` does not hide them by itself. It keeps the id of a part as its
///   `providerMetadata.towerDspy.part`; a part that is begun anew has another one, `1.answer#2`.
///
/// Clients of before `ai` 7 do not know `reset-step` and report an error there.
///
/// # The request
/// A stream cannot be resumed: a client that goes away has cancelled the call.
///
/// `{"messages": [{"role": "user", "parts": [{"type": "text", "text": ".."}]}]}`. The text of an
/// assistant's message is the answer of its `data-prediction`, if it has that, else its texts. Files of
/// the user are refused by 422. All other members are for [`ChatFields::inputs`].
pub fn ui_messages<S, T>(streaming: S, fields: ChatFields) -> MethodRouter<T>
where
    S: Service<PredictRequest, Response = PredictionStream> + Clone + Send + Sync + 'static,
    S::Error: Classify + Into<BoxError>,
    S::Future: Send,
    T: Clone + Send + Sync + 'static,
{
    StreamOptions::new().ui_messages(streaming, fields)
}

impl StreamOptions {
    /// [`ui_messages`](ui_messages()) with these options.
    pub fn ui_messages<S, T>(self, streaming: S, fields: ChatFields) -> MethodRouter<T>
    where
        S: Service<PredictRequest, Response = PredictionStream> + Clone + Send + Sync + 'static,
        S::Error: Classify + Into<BoxError>,
        S::Future: Send,
        T: Clone + Send + Sync + 'static,
    {
        post(move |mut asker: Asker, request: Request| async move {
            let id = asker.id();
            match read(asker, request, &fields).await {
                Ok(request) => {
                    respond(streaming, request, UiMessageWriter::new(fields), self).await
                }
                Err(refused) => IntoResponse::into_response(refused.with_call_id(id)),
            }
        })
    }
}

async fn read(
    asker: Asker,
    request: Request,
    fields: &ChatFields,
) -> Result<PredictRequest, ErrorResponse> {
    let body = asker.body(request).await?;
    let messages = message::read(&body, fields);
    let inputs = messages.and_then(|messages| Ok(fields.to_inputs(messages, &body)?));
    let refuse = |wrong: String| ErrorResponse::refused(StatusCode::UNPROCESSABLE_ENTITY, wrong);
    inputs.map(|inputs| asker.asks(inputs)).map_err(refuse)
}
