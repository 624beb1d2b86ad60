//! What a reader gets of a stream.

use std::collections::BTreeMap;

use futures_util::{FutureExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::ServiceExt;
use tower_dspy::{
    Cause, DspyService, Error, PredictRequest, Prediction, PredictionStream, Scope, StreamEvent,
    testing::scripted_lm::{Outcome, Reply, RequestRecord},
};

use crate::support::{LIMIT, eventually, lm_server};

/// All events of a stream, added up.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// By LM call and field.
    pub(super) texts: BTreeMap<(u64, String), String>,
    pub(super) predictors: BTreeMap<u64, String>,
    pub(super) thinking: String,
    pub(super) deltas: usize,
    /// The text that was replaced, by LM call and field.
    pub(super) replaced: Vec<(u64, String, String)>,
    pub(super) restarts: Vec<u64>,
    pub(super) statuses: Vec<String>,
    /// Tool calls and results.
    pub(super) tools: Vec<Value>,
    pub(super) events: usize,
    pub(super) end: Option<Result<Prediction, Error>>,
}

impl Reading {
    /// The text of a field of an LM call.
    pub(super) fn text(&self, lm_call: u64, field: &str) -> &str {
        let text = self.texts.get(&(lm_call, field.to_owned()));
        text.map(String::as_str).unwrap_or_default()
    }

    pub(super) fn prediction(&self) -> &Prediction {
        match &self.end {
            Some(Ok(prediction)) => prediction,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn error(&self) -> &Error {
        match &self.end {
            Some(Err(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn partial(&self) -> Value {
        partial(self.error())
    }

    pub(super) fn answer(&self) -> &Value {
        self.prediction().get("answer").expect("an answer")
    }

    fn take(&mut self, item: Result<StreamEvent, Error>) {
        self.events += 1;
        let event = match item {
            Ok(event) => event,
            Err(error) => return self.end = Some(Err(error)),
        };
        match event {
            StreamEvent::Text {
                lm_call,
                predictor,
                field,
                delta,
            } => {
                assert!(!delta.is_empty());
                self.predictors.insert(lm_call, predictor.to_string());
                *self.texts.entry((lm_call, field.to_string())).or_default() += &delta;
                self.deltas += 1;
            }
            StreamEvent::Thinking { delta, .. } => {
                assert!(!delta.is_empty());
                self.thinking += &delta;
            }
            StreamEvent::Replace {
                lm_call,
                field,
                text,
                ..
            } => {
                let field = field.to_string();
                let before = self.texts.insert((lm_call, field.clone()), text);
                let before = before.unwrap_or_default();
                self.replaced.push((lm_call, field, before));
            }
            StreamEvent::Restart { lm_call, .. } => {
                self.texts.retain(|(of, _), _| *of != lm_call);
                self.restarts.push(lm_call);
            }
            StreamEvent::Status { message } => self.statuses.push(message),
            StreamEvent::ToolCall {
                id,
                name,
                arguments,
            } => self.tools.push(json!([id, &*name, arguments])),
            StreamEvent::ToolResult { id, name, result } => match result {
                Ok(value) => self.tools.push(json!([id, &*name, {"value": value}])),
                Err(error) => self.tools.push(json!([id, &*name, {"error": error}])),
            },
            StreamEvent::Done(prediction) => self.end = Some(Ok(*prediction)),
            other => panic!("{other:?}"),
        }
    }

    /// Takes the next event; false after the last.
    pub(super) async fn next(&mut self, stream: &mut PredictionStream) -> bool {
        let item = timeout(LIMIT, stream.next()).await;
        let Some(item) = item.expect("an event in time") else {
            assert!(self.end.is_some());
            return false;
        };
        assert!(self.end.is_none(), "{item:?} after the end");
        self.take(item);
        true
    }

    /// Takes events until there is some text.
    pub(super) async fn until_text(&mut self, stream: &mut PredictionStream) {
        while self.texts.values().all(String::is_empty) {
            assert!(self.next(stream).await && self.end.is_none(), "{self:?}");
        }
    }

    /// Takes the rest of the events.
    pub(super) async fn rest(mut self, mut stream: PredictionStream) -> Self {
        while self.next(&mut stream).await {}
        self
    }
}

/// All events of a stream.
pub(super) async fn read(stream: PredictionStream) -> Reading {
    Reading::default().rest(stream).await
}

/// A stream of `program` until some text has come.
pub(super) async fn begun(program: &DspyService, request: PredictRequest) -> Begun {
    let mut stream = program.streaming().oneshot(request).await.unwrap();
    let mut reading = Reading::default();
    reading.until_text(&mut stream).await;
    Begun { stream, reading }
}

/// A stream whose text has begun.
pub(super) struct Begun {
    pub(super) stream: PredictionStream,
    pub(super) reading: Reading,
}

impl Begun {
    /// Takes the events that are ready, without a wait.
    pub(super) fn take_ready(&mut self) {
        while let Some(Some(item)) = self.stream.next().now_or_never() {
            self.reading.take(item);
        }
    }

    pub(super) async fn rest(self) -> Reading {
        self.reading.rest(self.stream).await
    }
}

/// That the partial answer of a stream has what its reader had.
pub(super) fn assert_partial(read: &Reading) {
    let partial = read.partial();
    for ((_, field), text) in &read.texts {
        let kept = partial[field].as_str().unwrap_or_default();
        // Of several LM calls it is the text of the last.
        assert!(!kept.is_empty() && !text.is_empty(), "{partial}, {read:?}");
        if read.texts.len() == 1 {
            assert!(kept.starts_with(text), "{partial}, {read:?}");
        }
    }
}

pub(super) fn assert_cancelled(error: &Error, cause: Cause) {
    match error {
        Error::Cancelled(cancelled) => assert_eq!(cancelled.cause(), cause),
        other => panic!("{other:?}"),
    }
}

pub(super) fn assert_elapsed(error: &Error, scope: Scope) {
    match error {
        Error::Elapsed(elapsed) => assert_eq!(elapsed.scope(), scope),
        other => panic!("{other:?}"),
    }
}

/// The partial answer of an error.
pub(super) fn partial(error: &Error) -> Value {
    json!(error.spent().and_then(|spent| spent.partial.as_ref()))
}

/// That the LM's work on all requests of a model has ended, of which `gone` clients went away; `None`
/// is any number of them.
pub(super) async fn lm_ended(model: &str, gone: impl Into<Option<usize>>) -> Vec<RequestRecord> {
    let gone = gone.into();
    let over = |all: &[RequestRecord]| {
        let gone_so_far = all.iter().filter(|r| r.outcome == Outcome::ClientGone);
        let gone_so_far = gone_so_far.count();
        gone.is_none_or(|gone| gone == gone_so_far)
            && all.iter().all(|r| r.outcome != Outcome::Running)
    };
    lm_server().await.wait_for(model, over).await.unwrap()
}

/// That the LM was let go of `gone` requests, that nothing is left of the calls of a program, and that
/// its next call is well.
pub(super) async fn is_well_after(
    program: &DspyService,
    model: &str,
    gone: impl Into<Option<usize>>,
    request: PredictRequest,
) {
    lm_ended(model, gone).await;
    eventually("its permits", || program.in_flight() == 0).await;
    lm_server().await.script(model, Reply::echo());
    let stream = program.streaming().oneshot(request).await.unwrap();
    read(stream).await.prediction();
    eventually("its permit", || program.in_flight() == 0).await;
}
