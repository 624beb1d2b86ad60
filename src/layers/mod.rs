//! The layers, one file or folder each, and `guard`, by which those that limit or cancel end the work
//! inside.

/// The methods that lead from a layer's service to the service inside.
macro_rules! inner_service_accessors {
    () => {
        /// The inner service.
        pub const fn get_ref(&self) -> &S {
            &self.inner
        }

        /// The inner service, mutably.
        pub const fn get_mut(&mut self) -> &mut S {
            &mut self.inner
        }

        /// Gives the inner service back.
        pub fn into_inner(self) -> S {
            self.inner
        }
    };
}
#[cfg(feature = "lm")]
pub(crate) use inner_service_accessors;

pub(crate) mod allot;
mod between_attempts;
pub(crate) mod budget;
pub(crate) mod cancel;
pub(crate) mod classify;
pub(crate) mod deadline;
pub(crate) mod fallback;
pub(crate) mod guard;
pub(crate) mod hedge;
pub(crate) mod latency;
pub(crate) mod outbound;
pub(crate) mod retry;
pub(crate) mod shutdown;
pub(crate) mod stream_timeout;
pub(crate) mod timeout;
pub(crate) mod track;

pub use allot::AllotFuture;
pub(crate) use allot::AllotLayer;
pub(crate) use budget::BudgetLayer;
pub use budget::{BudgetFn, BudgetService, BudgetSource, EachCall, TenantBudgets};
pub use cancel::CancelFuture;
pub(crate) use cancel::{CancelLayer, CancelService};
pub use classify::{ByClassify, ByFn, Classifier};
pub use deadline::DeadlineFuture;
pub(crate) use deadline::{DeadlineLayer, DeadlineService};
pub(crate) use fallback::FallbackLayer;
pub use fallback::{
    FallbackChain, FallbackFn, FallbackFuture, FallbackService, FallbackStrategy, Value,
};
#[cfg(feature = "stale")]
pub use fallback::{Stale, StalePrediction, StaleValue, Staleness};
pub use hedge::HedgeFuture;
pub(crate) use hedge::{Hedge, HedgeLayer};
pub use latency::RecordLatencyFuture;
pub(crate) use latency::{Latency, Percentile, RecordLatencyLayer};
pub use outbound::{Outbound, OutboundFuture};
pub(crate) use retry::{Backoff, Retry, RetryBudget, RetryLayer};
pub use retry::{RetryBudgetOptions, RetryFuture};
pub use shutdown::{HookOutcome, HookOutput, HookReport, ShutdownFuture, ShutdownPhase};
pub(crate) use shutdown::{Shutdown, ShutdownLayer, ShutdownService};
pub use stream_timeout::StreamTimeoutFuture;
pub(crate) use stream_timeout::StreamTimeoutLayer;
pub use timeout::TimeoutFuture;
pub(crate) use timeout::{Timeout, TimeoutLayer};
pub use track::{CallCounts, CallPhases, CallSnapshot, Cancellation, TrackFuture};
pub(crate) use track::{Track, TrackLayer, Tracker};
