//! One file a layer.

mod cancel;
mod deadline;
mod guard;
mod timeout;

pub use cancel::{CancelFuture, CancelLayer, CancelService};
pub use deadline::{DeadlineFuture, DeadlineLayer, DeadlineService};
pub use timeout::{Timeout, TimeoutFuture, TimeoutLayer};
