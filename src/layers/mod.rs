//! One file a layer.

mod allot;
mod cancel;
pub mod classify;
mod deadline;
pub mod fallback;
pub(crate) mod guard;
mod hedge;
mod latency;
mod outbound;
pub mod retry;
pub mod shutdown;
mod timeout;
pub mod track;

pub use allot::{Allot, AllotFuture, AllotLayer};
pub use cancel::{CancelFuture, CancelLayer, CancelService};
pub use classify::{ByClassify, ByFn, Classifier};
pub use deadline::{DeadlineFuture, DeadlineLayer, DeadlineService};
pub use fallback::{Fallback, FallbackFuture, FallbackLayer};
pub use hedge::{Hedge, HedgeFuture, HedgeLayer};
pub use latency::{
    Latency, OutOfRange, Percentile, RecordLatency, RecordLatencyFuture, RecordLatencyLayer,
};
pub use outbound::{Outbound, OutboundFuture, OutboundLayer};
pub use retry::{Backoff, Retry, RetryBudget, RetryFuture, RetryLayer, RetryPolicy};
pub use shutdown::{
    HookOutcome, HookOutput, HookReport, Shutdown, ShutdownFuture, ShutdownLayer, ShutdownPhase,
    ShutdownReport, ShutdownService,
};
pub use timeout::{Timeout, TimeoutFuture, TimeoutLayer};
pub use track::{CallCounts, CallSnapshot, CallStatus, Track, TrackFuture, TrackLayer, Tracker};
