//! What a record keeps of one attempt.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::timeline::{AttemptKind, AttemptTimeline};
#[cfg(feature = "lm")]
use super::{LmCall, LmOutcome};
#[cfg(feature = "lm")]
use crate::call::{BudgetRefusal, Usage};
use crate::call::{Cause, Deadline};

/// One attempt, as far as only this attempt writes it.
pub(super) struct AttemptState {
    /// Its number among all attempts of the record.
    pub(super) key: u64,
    pub(super) stages: AttemptStages,
    /// The outcome of the LM calls that are dropped from now on.
    #[cfg(feature = "lm")]
    pub(super) stopped: Option<LmOutcome>,
    #[cfg(feature = "lm")]
    pub(super) next_id: u64,
    /// The LM calls that are under way.
    #[cfg(feature = "lm")]
    pub(super) open: Vec<OpenLmCall>,
    /// What this attempt spent of the costs.
    #[cfg(feature = "lm")]
    pub(super) usage: Usage,
    /// Why the last LM call was refused that found a budget used up.
    #[cfg(feature = "lm")]
    pub(super) over_budget: Option<BudgetRefusal>,
    /// The wait that a layer asked for when it refused the last LM call, as a limit of rate does.
    #[cfg(any(feature = "_host", all(feature = "lm", test)))]
    pub(super) refusal_wait: Option<Duration>,
    #[cfg(any(feature = "_host", all(feature = "lm", test)))]
    pub(super) partial: bool,
}

/// The stages of an attempt, each at the instant at which it was reached.
pub(super) struct AttemptStages {
    /// How many attempts came before it.
    pub(super) number: u32,
    pub(super) kind: AttemptKind,
    pub(super) begun: Instant,
    pub(super) limit: Option<Deadline>,
    /// It was handed to the host, and waits for Python.
    pub(super) queued: Option<Instant>,
    /// Python began to run it.
    pub(super) started: Option<Instant>,
    /// When its work was signalled to stop.
    pub(super) signalled: Option<Instant>,
    /// When a layer drops its work at the latest.
    pub(super) drops_at: Option<Instant>,
    /// When its outcome was returned.
    pub(super) ended: Option<Instant>,
    pub(super) is_answered: bool,
    /// Why it was signalled to stop, or ended without an answer or an error of its own.
    pub(super) cause: Option<Cause>,
    /// All its work had ended.
    pub(super) settled: Option<Instant>,
    pub(super) strays: Vec<Arc<str>>,
}

impl AttemptState {
    pub(super) fn new(key: u64, number: u32, kind: AttemptKind) -> Self {
        Self {
            key,
            stages: AttemptStages::new(number, kind, Instant::now()),
            #[cfg(feature = "lm")]
            stopped: None,
            #[cfg(feature = "lm")]
            next_id: 0,
            #[cfg(feature = "lm")]
            open: Vec::new(),
            #[cfg(feature = "lm")]
            usage: Usage::default(),
            #[cfg(feature = "lm")]
            over_budget: None,
            #[cfg(any(feature = "_host", all(feature = "lm", test)))]
            refusal_wait: None,
            #[cfg(any(feature = "_host", all(feature = "lm", test)))]
            partial: false,
        }
    }

    /// An LM call begins, which no layer has refused so far.
    #[cfg(feature = "lm")]
    pub(super) const fn lm_call_begins(&mut self) {
        #[cfg(any(feature = "_host", test))]
        {
            self.refusal_wait = None;
        }
    }

    /// Whether work of it goes on.
    pub(super) fn is_at_work(&self) -> bool {
        self.stages.queued.is_some() && self.stages.settled.is_none()
    }

    /// Whether nothing more is to be written about it.
    pub(super) const fn is_over(&self) -> bool {
        let stages = &self.stages;
        stages.queued.is_none() || stages.ended.is_some() && stages.settled.is_some()
    }
}

impl AttemptStages {
    const fn new(number: u32, kind: AttemptKind, begun: Instant) -> Self {
        Self {
            number,
            kind,
            begun,
            limit: None,
            queued: None,
            started: None,
            signalled: None,
            drops_at: None,
            ended: None,
            is_answered: false,
            cause: None,
            settled: None,
            strays: Vec::new(),
        }
    }

    /// The stages with their times since `arrival`.
    pub(super) fn timeline(&self, arrival: Instant) -> AttemptTimeline {
        let since = |instant: Instant| instant.saturating_duration_since(arrival);
        let grace = match (self.signalled, self.drops_at) {
            (Some(told), Some(drops_at)) => drops_at.saturating_duration_since(told),
            _ => Duration::ZERO,
        };
        AttemptTimeline {
            number: self.number,
            kind: self.kind,
            begun: since(self.begun),
            limit: self.limit.map(|limit| since(limit.instant())),
            queued: self.queued.map(since),
            started: self.started.map(since),
            signalled: self.signalled.map(since),
            cause: self.cause,
            grace,
            ended: self.ended.map(since),
            is_answered: self.is_answered,
            settled: self.settled.map(since),
            strays: self.strays.clone(),
        }
    }
}

#[cfg(feature = "lm")]
/// An LM call that is under way.
pub(super) struct OpenLmCall {
    pub(super) id: u64,
    pub(super) began: Instant,
    pub(super) call: LmCall,
}
