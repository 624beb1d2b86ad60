//! A service that follows a script and remembers what it was asked.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::time::Instant;
use tower::{Service, service_fn};
use tower_dspy::{
    CallContext, Carrier, Elapsed, Error, LmError, PredictRequest, Prediction, Scope, Stage,
};

/// The contexts of the calls that a service got, and when.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<(Instant, CallContext)>>>);

impl Log {
    pub(crate) fn calls(&self) -> Vec<(Instant, CallContext)> {
        self.0.lock().expect("no panic under the lock").clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.calls().len()
    }

    /// Answers the `n`-th call, counted from 0 over all clones, with `answer(n)`.
    pub(crate) fn service<F, Fut>(
        &self,
        answer: F,
    ) -> impl Service<PredictRequest, Response = Prediction, Error = Error, Future = Fut>
    + Clone
    + use<F, Fut>
    where
        F: Fn(usize) -> Fut + Clone,
        Fut: Future<Output = Result<Prediction, Error>>,
    {
        let log = self.clone();
        service_fn(move |request: PredictRequest| {
            assert_eq!(request.inputs(), &question());
            let context = request.context().cloned().unwrap_or_default();
            let mut calls = log.0.lock().expect("no panic under the lock");
            calls.push((Instant::now(), context));
            answer(calls.len() - 1)
        })
    }
}

pub(crate) fn question() -> serde_json::Value {
    json!({"question": "Why is the sky blue?"})
}

pub(crate) fn request() -> PredictRequest {
    PredictRequest::new(question())
}

pub(crate) fn answer(text: &str) -> Prediction {
    Prediction::new([("answer".to_owned(), json!(text))].into_iter().collect())
}

pub(crate) fn elapsed(scope: Scope) -> Error {
    Elapsed::new(scope, Stage::Running, std::time::Duration::from_secs(1)).into()
}

/// What another attempt may do better.
pub(crate) fn too_slow() -> Error {
    elapsed(Scope::Attempt)
}

pub(crate) fn busy(retry_after: Option<std::time::Duration>) -> Error {
    LmError::new("LMRateLimitError", "slow down", Some(429), retry_after).into()
}
