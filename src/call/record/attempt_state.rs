//! What a record keeps of one attempt.

use tokio::time::Instant;

use super::timeline::AttemptTimeline;
#[cfg(feature = "lm")]
use super::{LmCall, LmOutcome};
#[cfg(feature = "lm")]
use crate::call::Usage;

/// One attempt, as far as only this attempt writes it.
pub(super) struct AttemptState {
    pub(super) timeline: AttemptTimeline,
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
    #[cfg(any(feature = "_host", all(feature = "lm", test)))]
    pub(super) partial: bool,
}

impl AttemptState {
    pub(super) fn new(number: u32) -> Self {
        Self {
            timeline: AttemptTimeline::new(number, Instant::now()),
            #[cfg(feature = "lm")]
            stopped: None,
            #[cfg(feature = "lm")]
            next_id: 0,
            #[cfg(feature = "lm")]
            open: Vec::new(),
            #[cfg(feature = "lm")]
            usage: Usage::default(),
            #[cfg(any(feature = "_host", all(feature = "lm", test)))]
            partial: false,
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
