//! DSPy programs as tower services that can be timed out, cancelled, retried and replaced.
//! **Elapsed means stopped**: when a limit passes, the wait ends, and the Python work and its LM
//! request end with it: the connection to the provider is closed. Whether the provider stops too is
//! measured, not assumed: see [`lm`](lm#what-goes-on-at-the-provider).
//!
//! # The way of a request
//!
//! ```text
//! axum / tonic / a plain call
//!   -> server        connections, and their end in bounded time            mod server
//!   -> inbound       the deadline from the wire, the client's disconnect;  mod inbound
//!                    errors as HTTP and gRPC statuses
//!   -> layers        shutdown, track, deadline, cancel, fallback, retry,   mod layers,
//!                    hedge, attempt timeout                                in order: mod stack
//!   -> DspyService   checks the inputs, takes a permit                     mod service
//!   -> host          a queue to the thread that owns the interpreter       mod host
//!   -> program       your DSPy module, unchanged                           src/python
//!   -> lm            each LM call, back in Rust: a tower HTTP stack        mod lm
//! ```
//!
//! The [`guide`] has a page for each question: from a [first program](guide::first_program) by
//! [limits](guide::limits), [streaming](guide::streaming) and [tenants](guide::tenants) to
//! [operation](guide::operate). Each step above with its files and functions is on the page
//! [`guide::architecture`].
//!
//! What travels with the request is its [`CallContext`]: [`Deadline`], [`Cancel`] with its
//! [`Cause`], id and attempt. A layer may only tighten it.
//!
//! # First steps
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use serde_json::json;
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_dspy::{DeadlineLayer, Host, Lm, PredictRequest, RetryLayer, TimeoutLayer};
//!
//! # async fn first() -> Result<(), Box<dyn std::error::Error>> {
//! let host = Host::embedded().venv(".venv").start().await?;
//! let lm = Lm::new("openai/gpt-4o-mini").key_env("OPENAI_API_KEY");
//! let qa = host.load("question -> answer").lm(lm).max_in_flight(64).await?;
//!
//! let qa = ServiceBuilder::new()
//!     .layer(DeadlineLayer::new(Duration::from_secs(10)))
//!     .layer(RetryLayer::new(2)) // at most 3 attempts
//!     .layer(TimeoutLayer::new(Duration::from_secs(4)))
//!     .service(qa);
//!
//! let request = PredictRequest::new(json!({"question": "Why is the sky blue?"}));
//! let answer = qa.oneshot(request).await?; // dropping the future cancels the work
//! println!("{:?}", answer.get("answer"));
//! # Ok(())
//! # }
//! ```
//!
//! [`StandardStack`] is the layers of a whole call in their order, as one; [`StackConfig`] reads it from a file.
//!
//! [`DspyService::streaming`] is the same program as a service of [`PredictionStream`]s: the answer as
//! it is written. The response comes with the first event, so the layers work on it as well.
//!
//! # What a call cost
//!
//! A [`Prediction`] tells its LM calls and tokens. So does the error of a call that has no answer:
//! [`Spent`], by [`Error::spent`], with the last partial answer that the program left.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `python` (default) | [`Host::embedded`], [`DspyService`]: programs in this process; on Linux, with a shared libpython |
//! | `pyo3-async-runtimes` (default, with `python`) | `Host::task_locals`: the host's asyncio loop for PyO3 code of yours |
//! | `workers` | [`Host::workers`](Host): programs in worker processes; on Linux, without libpython |
//! | `lm` (default, part of both) | [`lm`]: LM calls as a tower HTTP stack |
//! | `reqwest` (with `lm`) | `LmClient::from_reqwest`: LM calls through a client of reqwest that is set up elsewhere |
//! | `stale` | `layers::fallback::Stale`: the last good answer as a fallback; brings moka |
//! | `axum` | `inbound::axum`: a program behind a route, its answer whole or as server-sent events, for `useChat` of Vercel's AI SDK or as a model of OpenAI's API; [`CallContext`] as an extractor, [`Error`] as a response, readiness; `server`: a server, of gRPC too, that ends in bounded time |
//! | `debug-page` (with `axum`) | [`page`]: a page of the calls under way, of samples of finished ones, and of their timelines, off unless it is mounted; brings maud |
//! | `openapi` (with `axum`) | `inbound::axum::Programs`: an OpenAPI document of programs behind routes; brings utoipa |
//! | `tonic` (with `axum`) | `inbound::tonic`: programs as a gRPC service with health and reflection; `outbound::tonic`: its client as a service; [`Error`] as a status with details, and back |
//! | `metrics` | [`mod@metrics`]: metrics of calls, LM calls, layers and hosts, by the facade of that name; with `axum` a route for Prometheus |
//! | `metrics-exporter-prometheus` (with `axum` and `metrics`) | `PrometheusMetrics::from_handle`: an exporter that is set up elsewhere |
//! | `otel` | the spans of calls in the trace of their client, by OpenTelemetry; see [`telemetry`]; brings tracing-opentelemetry |
//! | `test-util` | [`testing`]: a mock of the service, a scripted LM over real HTTP; for tests only |
//! | `py-spy` (with `python` or `workers`) | [`Health::Blocked`] names the frame that holds the GIL as well; brings py-spy |
//! | `full` | all but `py-spy` and `test-util` |
//!
//! Without default features the layers build with no Python, for any tower service, on any system.
//!
//! # Where an item is
//!
//! Each item has one public path: the root for what most users write, its module for the rest, such
//! as the futures of the layers. What the root re-exports is in no public module.

// Badges of features in the documentation, which only a nightly rustdoc makes. Where a condition has the
// internal feature `_host`, `doc(cfg)` names those that turn it on.
#![cfg_attr(docsrs, feature(doc_cfg), doc(auto_cfg(hide(feature = "_host"))))]

#[cfg(all(any(feature = "python", feature = "workers"), not(target_os = "linux")))]
compile_error!(
    "the features `python` and `workers` of tower-dspy need Linux; without them, by \
     `default-features = false`, the layers and the LM stack build anywhere"
);

/// The wire forms of a [`Deadline`].
pub mod deadline {
    pub use crate::call::deadline::{GrpcTimeout, InvalidTimeout, RequestTimeout, TimeoutProblem};
}

/// The timelines of calls: readings of their records.
pub mod timeline {
    pub use crate::{
        call::record::{
            BlockTimeline, OutcomeClass, ToolTimeline,
            timeline::{
                AnswerSource, AttemptKind, AttemptTimeline, CallAnswer, CallTimeline,
                LmCallTimeline, StopSignal,
            },
        },
        layers::track::{ProgramCalls, TookClass},
    };
}

mod batch;
mod builder;
mod call;
#[cfg(feature = "_host")]
#[cfg_attr(docsrs, doc(cfg(any(feature = "python", feature = "workers"))))]
pub mod doctor;
mod error;
// Its code is tested where all of its pages compile; `doc` is set for tests of the documentation too.
#[cfg(all(
    doc,
    any(
        not(doctest),
        all(
            feature = "axum",
            feature = "debug-page",
            feature = "metrics",
            feature = "openapi",
            feature = "python",
            feature = "stale",
            feature = "test-util",
            feature = "tonic",
            feature = "workers",
        )
    )
))]
pub mod guide;
#[cfg(feature = "_host")]
#[cfg_attr(docsrs, doc(cfg(any(feature = "python", feature = "workers"))))]
pub mod host;
pub mod inbound;
pub mod layers;
#[cfg(feature = "lm")]
pub mod lm;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod outbound;
#[cfg(feature = "debug-page")]
pub mod page;
pub mod patterns;
#[cfg(feature = "tonic")]
pub mod proto;
mod request;
#[cfg(feature = "axum")]
pub mod server;
#[cfg(any(feature = "_host", feature = "test-util", feature = "tonic"))]
#[cfg_attr(docsrs, doc(auto_cfg = false))] // Each of its items says what it needs.
pub mod service;
mod session;
pub mod stack;
mod stream;
mod sync;
pub mod telemetry;
#[cfg(feature = "test-util")]
pub mod testing;

pub use batch::{Batch, predict_all};
pub use builder::DspyServiceBuilderExt;
pub use call::{
    Budget, BudgetLimits, BudgetSpent, CallContext, CallId, CallStatus, Cancel, Carrier, Cause,
    Cost, Deadline, InvalidCallId, LmCall, LmOutcome, Price, RemainingBudget, Spent, TraceContext,
    Usage, Usd, WithContext, drop_scope,
};
pub use error::{
    BudgetExceeded, Cancelled, Classify, Elapsed, Error, ErrorKind, InvalidInput, LmError, Lost,
    Overloaded, ProgramError, Scope, Stage,
};
#[cfg(all(feature = "workers", fuzzing))]
#[doc(hidden)]
pub use host::workers::decode_worker_bytes;
#[cfg(feature = "workers")]
pub use host::workers::{EndedWorker, WorkerProcess, WorkerState, WorkerStats, Workers};
#[cfg(feature = "_host")]
#[cfg_attr(docsrs, doc(cfg(any(feature = "python", feature = "workers"))))]
pub use host::{
    core::{
        health::Health,
        lm_table::LmStats,
        stats::{HostStats, LmTotals},
        tool_definition::{Tool, ToolCall},
    },
    handle::Host,
    start_error::StartError,
};
pub use inbound::{layer::InboundLayer, serve::Serve};
pub use layers::{
    allot::{Allot, AllotLayer},
    budget::BudgetLayer,
    cancel::{CancelLayer, CancelService},
    deadline::{DeadlineLayer, DeadlineService},
    fallback::{Fallback, FallbackLayer},
    hedge::{Hedge, HedgeLayer},
    latency::{Latency, OutOfRange, Percentile, RecordLatency, RecordLatencyLayer},
    outbound::OutboundLayer,
    retry::{Backoff, Retry, RetryBudget, RetryLayer, RetryPolicy},
    shutdown::{Shutdown, ShutdownLayer, ShutdownReport, ShutdownService},
    stream_timeout::{StreamTimeout, StreamTimeoutLayer},
    timeout::{Timeout, TimeoutLayer},
    track::{Track, TrackLayer, Tracker},
};
#[cfg(feature = "lm")]
pub use lm::model::Lm;
pub use request::{PredictRequest, Prediction, Tenant};
#[cfg(feature = "_host")]
#[cfg_attr(docsrs, doc(cfg(any(feature = "python", feature = "workers"))))]
pub use service::{
    dspy::DspyService,
    load_error::{LoadError, LoadErrorKind},
    streaming::StreamingService,
};
pub use session::{Session, SessionLayer, SessionService};
pub use stack::{
    config::StackConfig,
    standard::{StandardService, StandardStack},
};
pub use stream::{PredictionStream, StreamEvent};

/// The README's code compiles.
#[cfg(all(doctest, feature = "workers"))]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;
