//! A loaded program, shared by the clones of its service.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use serde::Deserialize;

use super::{Schema, admission::Permits, lm_names};
use crate::{
    error::InvalidInput,
    host::{
        Host,
        core::{program_counts::ProgramCounts, registry::Registrations},
    },
};

/// Python's description of a program that it has loaded.
#[derive(Debug, Deserialize)]
pub(super) struct LoadedProgram {
    pub(super) id: u64,
    /// It is sync: its calls take a thread each.
    #[serde(default)]
    pub(super) blocking: bool,
    /// Its predictors with their text fields; `None` where only running the program tells.
    #[serde(default)]
    predictors: Option<Vec<PredictorFields>>,
    #[serde(flatten)]
    pub(super) schema: Schema,
}

/// A predictor of a program, and the names of its text outputs.
#[derive(Debug, Deserialize)]
struct PredictorFields {
    name: String,
    fields: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Program {
    pub(super) host: Host,
    pub(super) name: Arc<str>,
    pub(super) loaded: LoadedProgram,
    pub(super) served: RwLock<ServedProgram>,
    pub(super) permits: Permits,
    pub(super) counts: Arc<ProgramCounts>,
}

/// The part that a replacement of the program changes.
#[derive(Debug)]
pub(super) struct ServedProgram {
    /// The names that a request may choose an LM by.
    pub(super) lms: Vec<String>,
    pub(super) registrations: Arc<Registrations>,
}

impl Program {
    fn read(&self) -> RwLockReadGuard<'_, ServedProgram> {
        self.served.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses the name of an LM that the program was not loaded with.
    pub(super) fn check_lm(&self, asked: Option<&str>) -> Result<(), InvalidInput> {
        lm_names::check(&self.read().lms, &self.name, asked)
    }

    /// Refuses a field that no LM call of the program writes as a text.
    pub(super) fn check_text_field(&self, asked: &str, field: &str) -> Result<(), InvalidInput> {
        let Some(predictors) = &self.loaded.predictors else {
            return Ok(());
        };
        let refuse = |problem: String, known: Vec<&str>| {
            let expected = format!("one of {}", known.join(", "));
            Err(InvalidInput::new(&self.name, None, problem, expected))
        };
        let Some(predictor) = predictors.iter().find(|known| known.name == asked) else {
            let known = predictors.iter().map(|known| &*known.name).collect();
            return refuse(format!("there is no predictor `{asked}` to stream"), known);
        };
        if !predictor.fields.iter().any(|known| known == field) {
            let known = predictor.fields.iter().map(|known| &**known).collect();
            let problem = format!("the predictor `{asked}` has no text output `{field}` to stream");
            return refuse(problem, known);
        }
        Ok(())
    }

    /// Held by the calls in flight as well: their work may go on when all services are gone.
    pub(super) fn registrations(&self) -> Arc<Registrations> {
        self.read().registrations.clone()
    }

    /// Another program has taken over.
    #[cfg(feature = "workers")]
    pub(super) fn replaced(&self, by: ServedProgram) {
        let mut served = self.served.write().unwrap_or_else(PoisonError::into_inner);
        let registration = served.registrations.replace_program(None);
        by.registrations.replace_program(registration);
        let before = std::mem::replace(&mut *served, by);
        drop(served);
        // LMs and tools are the user's: their drop runs outside the lock.
        drop(before);
    }
}
