//! [`ChatPrograms`]: the programs that are models, by name.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use tower::{BoxError, Service, ServiceExt, util::BoxCloneSyncService};

use super::super::{chat::ChatFields, failure::StreamFailure};
use crate::{
    error::Classify,
    request::{PredictRequest, Prediction},
    stream::PredictionStream,
};

/// Programs by the name that a client gives as `model`.
#[derive(Default)]
#[must_use = "it goes into `chat_completions`"]
pub struct ChatPrograms(BTreeMap<Arc<str>, ChatProgram>);

pub(super) struct ChatProgram {
    pub(super) fields: ChatFields,
    pub(super) whole: BoxCloneSyncService<PredictRequest, Prediction, StreamFailure>,
    pub(super) streaming: BoxCloneSyncService<PredictRequest, PredictionStream, StreamFailure>,
    created: u64,
}

impl ChatPrograms {
    /// None.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Answers for the model `name`: by `whole` where the client does not stream, else by `streaming`.
    /// One of the same name is replaced.
    pub fn program<W, S>(
        mut self,
        name: impl Into<Arc<str>>,
        fields: ChatFields,
        whole: W,
        streaming: S,
    ) -> Self
    where
        W: Service<PredictRequest, Response = Prediction> + Clone + Send + Sync + 'static,
        W::Error: Classify + Into<BoxError>,
        W::Future: Send + 'static,
        S: Service<PredictRequest, Response = PredictionStream> + Clone + Send + Sync + 'static,
        S::Error: Classify + Into<BoxError>,
        S::Future: Send + 'static,
    {
        let program = ChatProgram {
            fields,
            whole: BoxCloneSyncService::new(whole.map_err(StreamFailure::from)),
            streaming: BoxCloneSyncService::new(streaming.map_err(StreamFailure::from)),
            created: now(),
        };
        self.0.insert(name.into(), program);
        self
    }

    pub(super) fn get(&self, name: &str) -> Option<(Arc<str>, &ChatProgram)> {
        let (name, program) = self.0.get_key_value(name)?;
        Some((Arc::clone(name), program))
    }

    pub(super) fn model(&self, name: &str) -> Option<Model<'_>> {
        let (name, program) = self.0.get_key_value(name)?;
        Some(Model::of(name, program))
    }

    pub(super) fn models(&self) -> Models<'_> {
        let programs = self.0.iter();
        Models {
            object: "list",
            data: programs
                .map(|(name, program)| Model::of(name, program))
                .collect(),
        }
    }
}

impl fmt::Debug for ChatPrograms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Seconds since 1970, as OpenAI's objects have them.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// The list of `GET /v1/models`.
#[derive(Serialize)]
pub(super) struct Models<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

#[derive(Serialize)]
pub(super) struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

impl<'a> Model<'a> {
    const fn of(id: &'a str, program: &ChatProgram) -> Self {
        Self {
            id,
            object: "model",
            created: program.created,
            owned_by: "tower-dspy",
        }
    }
}
