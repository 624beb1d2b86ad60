//! What travels with a call: its context, deadline, cancellation and record. And what its end takes:
//! `termination` watches for it, `drop_scope` names the cause to the work that is dropped, `in_flight`
//! is the registry of calls.

mod cancel;
mod context;
pub(crate) mod deadline;
pub mod drop_scope;
pub(crate) mod in_flight;
mod limit;
pub(crate) mod record;
pub(crate) mod termination;
#[cfg(test)]
mod tests;
mod usage;
mod waits;

pub(crate) use cancel::CancelGrace;
pub use cancel::{Cancel, Cause};
pub(crate) use context::CallTag;
pub use context::{CallContext, CallId, Carrier, WithContext};
pub use deadline::Deadline;
pub use limit::Scope;
pub(crate) use limit::{Enclosing, Limit};
pub use record::{LmCall, LmOutcome, Spent};
pub use usage::Usage;
pub(crate) use waits::{WaitGuard, Waits};
