//! The record of a call, and its readings.

#[cfg(feature = "lm")]
mod attempt;
#[cfg(any(feature = "_host", all(feature = "lm", test)))]
mod attempt_program;
mod attempt_state;
mod blocks;
mod call_record;
mod lm_call;
mod outcome_class;
mod reading;
pub(crate) mod seconds;
#[cfg(test)]
mod spent_tests;
#[cfg(all(test, feature = "lm"))]
mod tests;
pub(crate) mod timeline;
mod tools;
#[cfg(feature = "lm")]
mod totals;
mod tracked;
mod tracked_state;

#[cfg(feature = "lm")]
pub(crate) use self::{attempt::AttemptRecord, totals::LateAnswer};
pub use self::{
    blocks::BlockTimeline,
    call_record::Spent,
    lm_call::{LmCall, LmOutcome},
    outcome_class::OutcomeClass,
    tools::ToolTimeline,
};
pub(crate) use self::{call_record::CallRecord, tracked_state::RecordedAnswer};
#[cfg(any(feature = "_host", all(feature = "lm", test)))]
pub(crate) use self::{tools::ToolId, totals::Totals};
