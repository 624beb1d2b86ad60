//! A program that asks one LM, for a doctor.

use std::sync::Arc;

use super::{DspyService, LoadError, load::Load};
use crate::{
    host::Host,
    lm::{Lm, LmHandle},
};

/// The program: no adapter, as whether a model keeps to a format says nothing about the set-up.
const SOURCE: &str = "\
import dspy

async def ask(question: str):
    answers = await dspy.settings.lm.acall(question)
    return {'answered': len(answers) > 0}
";

/// A program that asks one LM.
pub(crate) struct LmProbe {
    /// Takes a `question`.
    pub(crate) service: DspyService,
    /// `None` if the host has forgotten it.
    pub(crate) handle: Option<Arc<LmHandle>>,
}

impl Host {
    /// Loads a program that asks `lm`, which finds its key and its address; sends nothing.
    pub(crate) async fn probe(&self, lm: &Lm) -> Result<LmProbe, LoadError> {
        // Errors name the LM.
        let load = Load::from_source(self.clone(), lm.name(), SOURCE, "ask").lm(lm.clone());
        let (spec, registrations) = load.to_spec()?;
        let id = spec["lm"]["id"].as_u64();
        let handle = id.and_then(|id| self.core().lms.get(usize::try_from(id).ok()?));
        let service = load.into_service(spec, registrations).await?;
        Ok(LmProbe { service, handle })
    }
}
