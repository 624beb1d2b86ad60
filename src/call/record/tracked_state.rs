//! What a record keeps of the call as a whole.

use std::sync::Arc;

use tokio::time::Instant;

use super::timeline::AnswerSource;
use crate::call::{CallId, CallStatus, Deadline, ErrorKind};

/// What is known of the call as a whole, by the outermost layer that tracks it.
#[derive(Default)]
pub(super) struct TrackedRecord {
    /// A layer tracks it.
    pub(super) is_tracked: bool,
    pub(super) id: Option<CallId>,
    pub(super) label: Option<Arc<str>>,
    pub(super) program: Option<Arc<str>>,
    pub(super) trace_id: Option<Arc<str>>,
    pub(super) deadline: Option<Deadline>,
    pub(super) source: AnswerSource,
    pub(super) answer: Option<RecordedAnswer>,
    pub(super) settled: Option<Instant>,
}

#[derive(Clone, Copy)]
pub(super) struct RecordedAnswer {
    pub(super) at: Instant,
    pub(super) status: CallStatus,
    pub(super) kind: Option<ErrorKind>,
    pub(super) dropped: bool,
}

impl TrackedRecord {
    pub(super) fn limit(&mut self, deadline: Option<Deadline>) {
        self.deadline = self.deadline.into_iter().chain(deadline).min();
    }
}
