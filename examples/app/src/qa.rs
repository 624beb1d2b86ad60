//! The program's inputs and outputs as structs, and the limits around it.

use serde::{Deserialize, Serialize};
use tower::{Layer, Service, util::BoxCloneSyncService};
use tower_dspy::{
    Error, FallbackLayer, PredictRequest, Prediction, PredictionStream, StandardStack,
};

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    pub question: String,
    pub passages: Vec<String>,
    #[serde(default)]
    pub audience: Audience,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Audience {
    #[default]
    Customer,
    Engineer,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Answer {
    pub answer: String,
    pub confidence: f64,
}

/// The program behind its limits, its answers whole and as they are written.
#[derive(Clone, Debug)]
pub struct Qa {
    pub whole: BoxCloneSyncService<PredictRequest, Prediction, Error>,
    pub streaming: BoxCloneSyncService<PredictRequest, PredictionStream, Error>,
}

impl Qa {
    /// Puts `stack` around the program, or around a mock in tests.
    pub fn new<W, S>(whole: W, streaming: S, stack: StandardStack) -> Self
    where
        W: Service<PredictRequest, Response = Prediction, Error = Error>,
        W: Clone + Send + Sync + 'static,
        W::Future: Send,
        S: Service<PredictRequest, Response = PredictionStream, Error = Error>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        // When the LM is down or late. A stream tells its reader of the error instead.
        let apology = [
            ("answer".to_owned(), "Please ask again later.".into()),
            ("confidence".to_owned(), 0.0.into()),
        ];
        let fallback = FallbackLayer::value(Prediction::new(apology.into_iter().collect()));
        Self {
            streaming: BoxCloneSyncService::new(stack.layer(streaming)),
            whole: BoxCloneSyncService::new(stack.with_fallback(fallback).layer(whole)),
        }
    }
}
