//! The queue of replacements, and the generation of workers that serves.
//!
//! Invariant: a generation is given to one replacement, and to no other after it has failed.

use std::{collections::VecDeque, sync::Arc};

use serde_json::Value;

use super::numbers::{Generation, LoadId};
use crate::host::core::fault::{Fault, FaultKind};

/// The inputs and outputs of a program.
pub(super) type ProgramFields = [Value; 2];

/// The fields of a program, by its description.
pub(super) fn fields(description: &Value) -> ProgramFields {
    ["inputs", "outputs"].map(|name| description.get(name).cloned().unwrap_or_default())
}

/// A replacement that is under way.
pub(super) struct Replacement<R> {
    pub(super) generation: Generation,
    pub(super) load: LoadId,
    pub(super) spec: Arc<Value>,
    pub(super) request: R,
}

/// The replacement that is under way, and those that wait for its end.
pub(super) struct Replacements<R> {
    serving: Generation,
    last_generation: u64,
    current: Option<Replacement<R>>,
    waiting: VecDeque<(LoadId, Arc<Value>, R)>,
}

impl<R> Default for Replacements<R> {
    fn default() -> Self {
        Self {
            serving: Generation::default(),
            last_generation: 0,
            current: None,
            waiting: VecDeque::new(),
        }
    }
}

impl<R> Replacements<R> {
    /// The generation that calls go to.
    pub(super) const fn serving(&self) -> Generation {
        self.serving
    }

    pub(super) const fn current(&self) -> Option<&Replacement<R>> {
        self.current.as_ref()
    }

    pub(super) fn push(&mut self, load: LoadId, spec: Value, request: R) {
        self.waiting.push_back((load, Arc::new(spec), request));
    }

    /// Begins the next replacement, unless one is under way. Returns those that are refused, because
    /// their program is not loaded.
    pub(super) fn begin_next(&mut self, is_loaded: impl Fn(LoadId) -> bool) -> Vec<R> {
        let mut refused = Vec::new();
        while self.current.is_none() {
            let Some((load, spec, request)) = self.waiting.pop_front() else {
                break;
            };
            if !is_loaded(load) {
                refused.push(request);
                continue;
            }
            self.last_generation += 1;
            self.current = Some(Replacement {
                generation: Generation(self.last_generation),
                load,
                spec,
                request,
            });
        }
        refused
    }

    /// Ends the replacement that is under way; the generation that serves goes on to.
    pub(super) const fn take(&mut self) -> Option<Replacement<R>> {
        self.current.take()
    }

    /// Ends the replacement that is under way; its generation serves from now on.
    pub(super) fn swap(&mut self) -> Option<Replacement<R>> {
        let current = self.current.take()?;
        self.serving = current.generation;
        Some(current)
    }

    pub(super) fn clear(&mut self) {
        self.current = None;
        self.waiting.clear();
    }
}

/// Refuses a program that has other fields than the one that was loaded first.
pub(super) fn check_fields(before: &ProgramFields, description: &Value) -> Result<(), Fault> {
    let now = fields(description);
    if *before == now {
        return Ok(());
    }
    let message = format!(
        "it takes or gives other fields: before {} -> {}, now {} -> {}; load it as another service",
        before[0], before[1], now[0], now[1],
    );
    Err(Fault {
        kind: FaultKind::Named("schema".into()),
        ..Fault::new("", message)
    })
}
