//! Run DSPy programs behind tower services. **Elapsed means stopped.**

mod builder;
mod cancel;
mod context;
mod deadline;
pub mod drop_scope;
pub mod error;
pub mod layers;
mod request;
#[cfg(feature = "test-util")]
pub mod testing;

pub use builder::DspyServiceBuilderExt;
pub use cancel::{Cancel, Cause};
pub use context::{CallContext, CallId, Carrier, WithContext};
pub use deadline::Deadline;
pub use error::{
    Cancelled, Classify, Elapsed, Error, ErrorKind, InvalidInput, LmError, Lost, Overloaded,
    ProgramError, Scope, Stage,
};
pub use layers::{Backoff, Fallback, FallbackLayer, Retry, RetryBudget, RetryLayer, RetryPolicy};
pub use request::{PredictRequest, Prediction, Usage};
