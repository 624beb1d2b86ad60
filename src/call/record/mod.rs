//! The record of a call, and its readings.

#[cfg(feature = "lm")]
mod attempt;
mod call_record;
mod lm_call;
mod spent;
#[cfg(all(test, feature = "lm"))]
mod tests;
mod timeline;

#[cfg(feature = "lm")]
pub(crate) use self::attempt::AttemptRecord;
#[cfg(any(feature = "_host", all(feature = "lm", test)))]
pub(crate) use self::attempt::Totals;
pub(crate) use self::call_record::{CallRecord, ReportOnDrop};
pub use self::{
    lm_call::{LmCall, LmOutcome},
    spent::Spent,
};
