//! What travels with a call: its context, deadline, cancellation and record.

mod cancel;
mod context;
pub mod deadline;
pub mod drop_scope;
pub(crate) mod in_flight;
pub(crate) mod record;
pub(crate) mod termination;
#[cfg(test)]
mod tests;
mod usage;

pub use cancel::{Cancel, Cause};
pub use context::{CallContext, CallId, Carrier, WithContext};
pub use deadline::Deadline;
pub use record::{LmCall, LmOutcome, Spent};
pub use usage::Usage;
