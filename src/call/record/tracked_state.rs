//! What a record keeps of the call as a whole.

use std::sync::Arc;

use tokio::time::Instant;

use super::timeline::AnswerSource;
use crate::call::{CallId, CallStatus, Deadline, ErrorKind};

/// What is known of the call as a whole, by the outermost layer that tracks it.
#[derive(Default)]
pub(super) struct TrackedRecord {
    /// How many layers track it now.
    pub(super) trackers: usize,
    /// A fallback has been asked.
    pub(super) fell_back: bool,
    /// The answer of an attempt that a layer tracks.
    pub(super) of_attempt: Option<RecordedAnswer>,
    pub(super) id: Option<CallId>,
    pub(super) label: Option<Arc<str>>,
    pub(super) program: Option<Arc<str>>,
    pub(super) trace_id: Option<Arc<str>>,
    pub(super) deadline: Option<Deadline>,
    pub(super) source: AnswerSource,
    pub(super) answer: Option<RecordedAnswer>,
    pub(super) settled: Option<Instant>,
}

/// An answer, as its layer saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordedAnswer {
    pub(crate) at: Instant,
    pub(crate) status: CallStatus,
    pub(crate) kind: Option<ErrorKind>,
    pub(crate) dropped: bool,
}

impl TrackedRecord {
    pub(super) fn limit(&mut self, deadline: Option<Deadline>) {
        self.deadline = self.deadline.into_iter().chain(deadline).min();
    }
}
