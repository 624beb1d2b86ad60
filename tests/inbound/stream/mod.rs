//! Programs behind routes that answer as they write, in each dialect.

mod accept;
mod backpressure;
mod chat_answers;
mod chat_requests;
mod chat_streams;
mod disconnect;
mod head;
mod hostile;
mod http2;
mod predict_events;
mod property;
mod shutdown;
mod ui_requests;
mod ui_restarts;
mod ui_streams;

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body, response::Response};
use futures_util::{StreamExt, stream};
use http::Request;
use serde_json::{Map, Value, json};
use tower::{ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_dspy::{
    CallContext, Carrier, Error, ErrorKind, InboundLayer, LmError, PredictRequest, Prediction,
    PredictionStream, Spent, StreamEvent, Usd,
    inbound::axum::stream::{ChatFields, ChatPrograms, StreamOptions},
    testing::error_of,
};

use super::support::body as bytes;

pub(crate) type Item = Result<StreamEvent, Error>;
pub(crate) type Streaming = BoxCloneSyncService<PredictRequest, PredictionStream, Error>;

/// A streaming service whose response is there at once, and gives what `events` makes.
pub(crate) fn streams<S>(events: impl Fn(PredictRequest) -> S + Send + Sync + 'static) -> Streaming
where
    S: stream::Stream<Item = Item> + Send + 'static,
{
    let events = Arc::new(events);
    BoxCloneSyncService::new(service_fn(move |request| {
        let events = Arc::clone(&events);
        async move { Ok(PredictionStream::new(events(request))) }
    }))
}

/// The same events for each call.
pub(crate) fn script(events: impl Fn() -> Vec<Item> + Send + Sync + 'static) -> Streaming {
    streams(move |_| stream::iter(events()))
}

/// The events, and after them none for long.
pub(crate) fn stalled(events: impl Fn() -> Vec<Item> + Send + Sync + 'static) -> Streaming {
    streams(move |_| stream::iter(events()).chain(stream::pending()))
}

/// A service whose response future fails.
pub(crate) fn refuses(error: impl Fn() -> Error + Send + Sync + 'static) -> Streaming {
    let error = Arc::new(error);
    BoxCloneSyncService::new(service_fn(move |_| {
        let error = Arc::clone(&error);
        async move { Err(error()) }
    }))
}

pub(crate) fn text(lm_call: u64, field: &str, delta: &str) -> Item {
    Ok(StreamEvent::Text {
        lm_call,
        predictor: "self".into(),
        field: field.into(),
        delta: delta.into(),
    })
}

pub(crate) fn thinking(lm_call: u64, delta: &str) -> Item {
    Ok(StreamEvent::Thinking {
        lm_call,
        predictor: "self".into(),
        delta: delta.into(),
    })
}

pub(crate) fn replace(lm_call: u64, field: &str, text: &str) -> Item {
    Ok(StreamEvent::Replace {
        lm_call,
        predictor: "self".into(),
        field: field.into(),
        text: text.into(),
    })
}

pub(crate) fn restart(lm_call: u64) -> Item {
    let predictor = "self".into();
    Ok(StreamEvent::Restart { lm_call, predictor })
}

pub(crate) fn status(message: &str) -> Item {
    let message = message.into();
    Ok(StreamEvent::Status { message })
}

pub(crate) fn tool_call(id: u64) -> Item {
    Ok(StreamEvent::ToolCall {
        id,
        name: "search".into(),
        arguments: json!({"query": "sky"}),
    })
}

pub(crate) fn tool_result(id: u64, result: Result<Value, String>) -> Item {
    let name = "search".into();
    Ok(StreamEvent::ToolResult { id, name, result })
}

pub(crate) fn prediction(outputs: Value) -> Prediction {
    let Value::Object(outputs) = outputs else {
        panic!("outputs are an object");
    };
    let mut prediction = Prediction::new(outputs);
    prediction.usage.prompt_tokens = 9;
    prediction.usage.completion_tokens = 2;
    prediction.usage.total_tokens = 11;
    prediction.cost.usd = Usd::new(2.55e-6);
    prediction.elapsed = Duration::from_millis(412);
    prediction
}

pub(crate) fn done(outputs: Value) -> Item {
    Ok(StreamEvent::Done(Box::new(prediction(outputs))))
}

/// What `prediction` is as JSON.
pub(crate) fn prediction_json(outputs: &Value) -> String {
    format!(
        "{{\"outputs\":{outputs},\"usage\":{{\"prompt_tokens\":9,\"completion_tokens\":2,\
         \"total_tokens\":11}},\"cost\":{{\"usd\":2.55e-6,\"estimated_usd\":0.0,\
         \"unknown_calls\":0}},\"lm_calls\":0,\"lm_calls_bypassed\":0,\"elapsed_ms\":412}}"
    )
}

/// One error of each kind.
pub(crate) fn errors() -> Vec<Error> {
    use ErrorKind::{
        BudgetExceeded, Cancelled, Deadline, Elapsed, InvalidInput, LmRejected, LmUnavailable,
        Lost, Overloaded, Program, ShuttingDown,
    };
    let kinds = [
        Elapsed,
        Deadline,
        Cancelled,
        ShuttingDown,
        Overloaded,
        InvalidInput,
        Program,
        LmUnavailable,
        LmRejected,
        BudgetExceeded,
        Lost,
    ];
    kinds.map(|kind| error_of(kind).unwrap()).into()
}

pub(crate) fn busy() -> Error {
    LmError::new(
        "LMRateLimitError",
        "a prompt",
        Some(429),
        Some(Duration::from_millis(6500)),
    )
    .into()
}

/// An error with a text that had come.
pub(crate) fn broken() -> Error {
    let mut spent = Spent::default();
    spent.partial = Some(Map::from_iter([("answer".to_owned(), json!("Ray"))]));
    let lost = tower_dspy::Lost::new("the mock says so");
    lost.with_spent(Arc::new(spent)).into()
}

pub(crate) fn whole() -> BoxCloneSyncService<PredictRequest, Prediction, Error> {
    BoxCloneSyncService::new(service_fn(|_| async {
        Ok(prediction(json!({"answer": "whole"})))
    }))
}

pub(crate) fn fields() -> ChatFields {
    ChatFields::new("question", "answer")
        .history("history")
        .reasoning("reasoning")
}

/// The three routes, over one streaming service.
pub(crate) fn app_with(streaming: &Streaming, options: StreamOptions) -> Router {
    let programs = ChatPrograms::new().program("qa", fields(), whole(), streaming.clone());
    Router::new()
        .route("/qa", options.predict_stream(whole(), streaming.clone()))
        .route("/chat", options.ui_messages(streaming.clone(), fields()))
        .merge(options.chat_completions(programs))
        .layer(InboundLayer::new())
}

pub(crate) fn app(streaming: &Streaming) -> Router {
    app_with(streaming, StreamOptions::new().with_head_after(None))
}

pub(crate) const QUESTION: &str = "{\"question\":\"why\"}";
pub(crate) const UI_CHAT: &str = "{\"messages\":[{\"id\":\"1\",\"role\":\"user\",\"parts\":[{\"type\":\"text\",\"text\":\"why\"}]}]}";
pub(crate) const CHAT: &str =
    "{\"model\":\"qa\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"why\"}]}";

/// A dialect: its path and a request for a stream.
pub(crate) const DIALECTS: [(&str, &str); 3] = [
    ("/qa", QUESTION),
    ("/chat", UI_CHAT),
    ("/v1/chat/completions", CHAT),
];

/// The id that each of these requests has, as an outer layer may have given it.
pub(crate) const CALL_ID: &str = "17";

pub(crate) fn request(path: &str, body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::post(path)
        .header("content-type", "application/json")
        .header("accept", "text/event-stream")
        .body(body.into())
        .unwrap();
    request.context_mut().call_id = Some(CALL_ID.parse().unwrap());
    request
}

pub(crate) async fn ask(app: &Router, path: &str, body: impl Into<Body>) -> Response {
    app.clone().oneshot(request(path, body)).await.unwrap()
}

pub(crate) async fn read(response: Response) -> String {
    String::from_utf8(bytes(response).await.to_vec()).unwrap()
}

/// The whole body that `streaming` is in the dialect of `path`.
pub(crate) async fn written(streaming: &Streaming, path: &str, body: &str) -> String {
    read(ask(&app(streaming), path, body.to_owned()).await).await
}

/// Events that have data alone.
pub(crate) fn data_events(data: &[&str]) -> String {
    let events = data.iter().map(|data| format!("data: {data}\n\n"));
    events.collect()
}

/// The JSON of each `data:` but `[DONE]`.
pub(crate) fn data(body: &str) -> Vec<Value> {
    let lines = body.lines().filter_map(|line| line.strip_prefix("data: "));
    let json = lines.filter(|data| *data != "[DONE]");
    json.map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

/// The inputs and the context of each call that a service got.
pub(crate) fn seen() -> (
    Streaming,
    tokio::sync::mpsc::UnboundedReceiver<(Value, CallContext)>,
) {
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    let service = streams(move |request| {
        let (inputs, context) = request.into_parts();
        let _ = tell.send(((*inputs).clone(), context));
        stream::iter([done(json!({"answer": "so"}))])
    });
    (service, told)
}
