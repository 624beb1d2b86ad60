//! A loaded program, shared by the clones of its service.

use std::sync::{Arc, PoisonError, RwLock};

use super::Schema;
use crate::{Host, InvalidInput, bridge::ProgramCounts, innermost::Permits};

#[derive(Debug)]
pub(super) struct Program {
    pub(super) host: Host,
    pub(super) name: Box<str>,
    pub(super) target: u64,
    pub(super) schema: Schema,
    /// It is sync: its calls take a thread each.
    pub(super) blocking: bool,
    /// The names that a request may choose an LM by.
    lms: RwLock<Vec<String>>,
    pub(super) permits: Permits,
    pub(super) counts: Arc<ProgramCounts>,
}

impl Program {
    pub(super) fn new(
        host: Host,
        name: &str,
        target: u64,
        schema: Schema,
        lms: Vec<String>,
        max_in_flight: usize,
        max_waiting: usize,
    ) -> Self {
        Self {
            host,
            name: name.into(),
            target,
            schema,
            blocking: false,
            lms: RwLock::new(lms),
            permits: Permits::new(max_in_flight, max_waiting),
            counts: Arc::new(ProgramCounts::new(name)),
        }
    }

    /// The same, as a sync program or as an async one.
    pub(super) fn blocking(mut self, yes: bool) -> Self {
        self.blocking = yes;
        self
    }

    /// It was replaced, and may be called with these LMs.
    #[cfg(feature = "workers")]
    pub(super) fn serve_lms(&self, lms: Vec<String>) {
        *self.lms.write().unwrap_or_else(PoisonError::into_inner) = lms;
    }

    /// Refuses the name of an LM that the program was not loaded with.
    pub(super) fn check_lm(&self, lm: Option<&str>) -> Result<(), InvalidInput> {
        let Some(asked) = lm else { return Ok(()) };
        let lms = self.lms.read().unwrap_or_else(PoisonError::into_inner);
        if lms.iter().any(|known| known == asked) {
            return Ok(());
        }
        let problem = format!("there is no LM `{asked}`");
        let expected = if lms.is_empty() {
            "requests that choose none: it was loaded without `.lms(..)`".to_owned()
        } else {
            format!("one of the LMs `{}`", lms.join("`, `"))
        };
        Err(InvalidInput::new(&self.name, None, problem, expected))
    }
}
