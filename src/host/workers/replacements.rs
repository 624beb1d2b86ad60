//! The queue of replacements, and the generation of workers that serves.
//!
//! Invariant: a generation is given to one replacement, and to no other after it has failed.

use std::{collections::VecDeque, sync::Arc};

use serde_json::Value;

use super::numbers::{Generation, LoadId};
use crate::host::core::fault::Fault;

/// The replacement of a program by another, loaded from `spec`.
pub(super) struct Replacement<R> {
    pub(super) generation: Generation,
    pub(super) load: LoadId,
    pub(super) spec: Arc<Value>,
    pub(super) request: R,
}

/// The replacement that is under way, and those that wait for its end.
pub(super) struct Replacements<R> {
    /// The generation that calls go to.
    pub(super) serving: Generation,
    last_generation: u64,
    pub(super) current: Option<Replacement<R>>,
    pub(super) waiting: VecDeque<Replacement<R>>,
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
    pub(super) fn push(&mut self, load: LoadId, spec: Value, request: R) {
        self.last_generation += 1;
        self.waiting.push_back(Replacement {
            generation: Generation(self.last_generation),
            load,
            spec: Arc::new(spec),
            request,
        });
    }

    /// Begins the next replacement, unless one is under way. Returns those that are refused, because
    /// their program is not loaded.
    pub(super) fn begin_next(&mut self, is_loaded: impl Fn(LoadId) -> bool) -> Vec<R> {
        let mut refused = Vec::new();
        while self.current.is_none()
            && let Some(next) = self.waiting.pop_front()
        {
            if is_loaded(next.load) {
                self.current = Some(next);
            } else {
                refused.push(next.request);
            }
        }
        refused
    }

    /// Ends the replacement that is under way; its generation serves from now on.
    pub(super) fn swap(&mut self) -> Option<Replacement<R>> {
        let current = self.current.take()?;
        self.serving = current.generation;
        Some(current)
    }
}

/// Refuses a program whose fields differ from those of the first load.
pub(super) fn check_fields(before: &Value, now: &Value) -> Result<(), Fault> {
    let fields = |of: &Value| ["inputs", "outputs"].map(|name| of[name].clone());
    let (before, now) = (fields(before), fields(now));
    if before == now {
        return Ok(());
    }
    let message = format!(
        "it takes or gives other fields: before {} -> {}, now {} -> {}; load it as another service",
        before[0], before[1], now[0], now[1],
    );
    Err(Fault::named("schema", message))
}
