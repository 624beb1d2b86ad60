//! The instants of a call, as its record has them.

use tokio::time::Instant;

use super::LmCall;
use crate::call::Cause;

/// A reading of a record: when which attempt reached which stage.
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "pages, metrics and traces are to read it")
)]
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    pub(crate) opened: Instant,
    /// In the order in which they began.
    pub(crate) attempts: Vec<AttemptTimeline>,
    /// Those that have ended, in the order in which they did, and then those under way.
    pub(crate) lm_calls: Vec<LmCall>,
}

/// The stages of one attempt, each at the instant at which it was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttemptTimeline {
    /// How many attempts came before it.
    pub(crate) number: u32,
    pub(crate) begun: Instant,
    /// It was handed to the host, and waits for Python.
    pub(crate) queued: Option<Instant>,
    /// Python began to run it.
    pub(crate) started: Option<Instant>,
    /// When its work was signalled to stop.
    pub(crate) told_to_stop: Option<Instant>,
    /// When its outcome was returned.
    pub(crate) ended: Option<Instant>,
    /// Why it ended, if not with an answer or an error of its own.
    pub(crate) cause: Option<Cause>,
    /// All its work had ended.
    pub(crate) settled: Option<Instant>,
}

impl AttemptTimeline {
    pub(super) const fn new(number: u32, begun: Instant) -> Self {
        Self {
            number,
            begun,
            queued: None,
            started: None,
            told_to_stop: None,
            ended: None,
            cause: None,
            settled: None,
        }
    }
}
