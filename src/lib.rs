//! Run DSPy programs behind tower services. **Elapsed means stopped.**

#[cfg(feature = "python")]
pub mod bridge;
mod builder;
mod cancel;
mod context;
mod deadline;
pub mod drop_scope;
pub mod error;
pub mod layers;
#[cfg(feature = "python")]
pub mod lm;
mod request;
#[cfg(feature = "python")]
pub mod service;
#[cfg(feature = "test-util")]
pub mod testing;

#[cfg(feature = "python")]
pub use bridge::{
    Health, Host, HostStats, StartError,
    env::{EnvError, PythonEnv},
};
pub use builder::DspyServiceBuilderExt;
pub use cancel::{Cancel, Cause};
pub use context::{CallContext, CallId, Carrier, WithContext};
pub use deadline::Deadline;
pub use error::{
    Cancelled, Classify, Elapsed, Error, ErrorKind, InvalidInput, LmError, Lost, Overloaded,
    ProgramError, Scope, Stage,
};
pub use layers::{
    Allot, AllotLayer, Backoff, CancelLayer, CancelService, DeadlineLayer, DeadlineService,
    Fallback, FallbackLayer, Hedge, HedgeLayer, Latency, Learn, LearnLayer, OutOfRange, Percentile,
    Retry, RetryBudget, RetryLayer, RetryPolicy, Timeout, TimeoutLayer,
};
#[cfg(feature = "python")]
pub use lm::Lm;
pub use request::{PredictRequest, Prediction, Usage};
#[cfg(feature = "python")]
pub use service::{DspyService, LoadError};
