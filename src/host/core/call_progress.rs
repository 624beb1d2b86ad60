//! The progress of one call.

use std::collections::BTreeMap;

use tokio::task::JoinSet;
use tracing::Span;

use super::{counters::GaugeGuard, orphans::OrphanGuard};
use crate::call::WorkGuard;

/// How far a call has come, and what it holds until it is settled.
pub(super) struct CallProgress {
    /// Of the service's call, for the spans of its LM calls and tools. Left when it is settled: Python
    /// may keep the call for longer.
    pub(super) span: Span,
    pub(super) cancelled: bool,
    pub(super) started: bool,
    /// The caller has the outcome, or has given up.
    pub(super) answered: bool,
    pub(super) settled: bool,
    /// Until it is settled.
    pub(super) work: Option<WorkGuard>,
    /// Answered and not settled.
    pub(super) orphan: Option<(GaugeGuard, OrphanGuard)>,
    /// The spans of the calls of Python's tools that have not ended.
    pub(super) tools: BTreeMap<u64, Span>,
    /// None begins once the call is over.
    pub(super) exchanges: JoinSet<()>,
}

impl CallProgress {
    pub(super) fn new(work: WorkGuard) -> Self {
        Self {
            span: Span::current(),
            cancelled: false,
            started: false,
            answered: false,
            settled: false,
            work: Some(work),
            orphan: None,
            tools: BTreeMap::new(),
            exchanges: JoinSet::new(),
        }
    }

    pub(super) const fn is_over(&self) -> bool {
        self.cancelled || self.answered
    }
}
