//! What travels with a call: its context, deadline, cancellation and record. And what its end takes:
//! `termination` watches for it, `drop_scope` names the cause to the work that is dropped, `in_flight`
//! is the registry of calls.

#[cfg_attr(
    not(feature = "lm"),
    allow(dead_code, reason = "LM calls reserve from budgets, and have prices")
)]
mod budget;
mod call_end;
mod call_id;
mod call_status;
mod cancel;
mod cause;
mod context;
mod cost;
pub(crate) mod deadline;
pub mod drop_scope;
mod error_kind;
pub(crate) mod in_flight;
mod limit;
mod open_stream;
#[cfg_attr(
    not(feature = "lm"),
    allow(dead_code, reason = "LM calls reserve from budgets, and have prices")
)]
mod price;
mod progress;
pub(crate) mod record;
pub(crate) mod termination;
#[cfg(test)]
mod tests;
mod trace_context;
mod usage;
mod usd;
mod work_count;

#[cfg(any(feature = "lm", test))]
pub(crate) use budget::{Amount, BudgetReservations};
pub use budget::{Budget, BudgetLimits, BudgetSpent, RemainingBudget};
pub(crate) use budget::{BudgetRefusal, Budgets};
pub(crate) use call_end::CallEnd;
pub use call_id::{CallId, InvalidCallId};
pub use call_status::CallStatus;
pub use cancel::Cancel;
pub(crate) use cancel::CancelGrace;
#[cfg(any(feature = "_host", feature = "test-util"))]
pub(crate) use cancel::WorkGuard;
pub use cause::Cause;
pub(crate) use context::CallTag;
#[cfg(any(feature = "_host", feature = "test-util", feature = "tonic"))]
pub(crate) use context::StreamLimit;
pub use context::{CallContext, Carrier, WithContext};
pub use cost::Cost;
pub use deadline::Deadline;
pub use error_kind::ErrorKind;
pub use limit::Scope;
pub(crate) use limit::{Enclosing, Limit};
pub(crate) use open_stream::OpenStream;
pub use price::Price;
#[cfg(feature = "_host")]
pub(crate) use price::PriceTier;
#[cfg(feature = "lm")]
pub(crate) use price::PricedTokens;
pub(crate) use progress::{Progress, WaitGuard};
pub(crate) use record::OutcomeClass;
pub use record::{LmCall, LmOutcome, Spent};
pub use trace_context::TraceContext;
pub use usage::Usage;
pub use usd::Usd;
