//! Spans of calls, and the trace that they are part of. Metrics are in [`mod@crate::metrics`].
//!
//! # Spans
//! All are of [`tracing`], of target `tower_dspy` at level info; without a subscriber they cost a look
//! at a flag. [`names`] has the names of their fields, which are those of the GenAI conventions of
//! OpenTelemetry where these have one.
//!
//! | span | exported as | from, to | made by |
//! |---|---|---|---|
//! | `call` | `tower_dspy.call` | the call to its answer, or the end of its stream | [`TrackLayer`](crate::TrackLayer) |
//! | `invoke_workflow` | `invoke_workflow {program}` | the permit to the end of all its work | `DspyService`, for each attempt |
//! | `chat` | `chat {model}`, kind client; `embeddings {model}` | an attempt at an LM call to the end of the answer's body | `Lm` |
//! | `execute_tool` | `execute_tool {tool}` | a call of a Rust tool, or of a `dspy.Tool` | the host |
//!
//! An error is the attribute `error.type` with the status *error*: `timeout` of a limit that passed, the
//! HTTP status of an LM's answer, else the kind of the error. A cancel that was meant, of a caller, a
//! client that went away, a shutdown, is no error: it leaves the status unset, and
//! `tower_dspy.cause` says why. No span has a prompt, an answer, an input, a tenant, a key or a header.
//!
//! # One trace, with the feature `otel`
//! Put the layer of `tracing-opentelemetry` 0.34 into the subscriber, with the exporter of your choice
//! (`examples/otel.rs` exports by OTLP):
//!
//! ```ignore
//! let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().build()?;
//! let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
//! let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("my-service"));
//! let exported = Targets::new()
//!     .with_target("tower_dspy", Level::INFO)
//!     .with_target("my_service", Level::INFO);
//! tracing_subscriber::registry()
//!     .with(layer.with_filter(exported))
//!     .init();
//! ```
//!
//! The filter is needed. An event in a span is exported with it, and the layer asks for all levels:
//! without a filter the events of target `tower_dspy::python` at debug go out, tracebacks with the
//! messages of exceptions among them, which may repeat a prompt or an answer. So do the spans of the
//! exporter's own requests, which then never ends.
//!
//! - **In.** [`InboundLayer`](crate::InboundLayer) reads the headers `traceparent` and `tracestate` of
//!   HTTP and of gRPC into [`CallContext::trace`](crate::CallContext::trace). The outermost span of this
//!   crate becomes a child of that span, unless it lies in a span of the same trace already, such as
//!   that of a middleware.
//! - **Into Python.** A program's code runs in the trace of its `invoke_workflow` span if
//!   `opentelemetry-api` is installed in its venv, in a worker process too: spans that instrumentations
//!   such as OpenInference's or MLflow's make are its children, also on the threads of `dspy.Parallel`,
//!   of executors and of the program. Python exports its spans itself, by the SDK that the program sets
//!   up. There a cancelled span keeps its status unset as well, and a limit of time is the error
//!   `timeout`. A process ends without Python's exit
//!   handlers: let a `BatchSpanProcessor` export often, by its `schedule_delay_millis`.
//! - **To the LM.** `chat` is a child of Python's current span. The trace ends here, unless
//!   `Lm::trace_propagation` sends it on to a gateway that is part of it.
//! - **Out.** [`OutboundLayer`](crate::OutboundLayer) and the gRPC client send it on.
//!
//! Without the feature `otel` the trace that came in is passed on as it came, and the spans are no part
//! of it.
//!
//! # What no span shows
//! - DSPy's agents have no `invoke_agent`. Their steps are the `chat` and `execute_tool` spans; Python's
//!   instrumentations make spans of modules such as `dspy.ReAct`.
//! - The `execute_tool` of a `dspy.Tool` is a child of `invoke_workflow`, and the LM calls of the tool are
//!   beside it: it is no span of Python's. That of a Rust tool lies where Python called it. DSPy's own
//!   `finish` and `submit`, by which its agents end, have none.
//! - An LM call that bypasses the host has no `chat`; see `LmCall` and `lm_calls_bypassed`.

#[cfg(feature = "metrics")]
pub(crate) mod metric_names;
pub(crate) mod metrics;
pub mod names;
#[cfg(feature = "otel")]
mod otel;

use std::sync::Arc;

use tracing::Span;

use crate::call::TraceContext;

/// Makes `span` part of `trace`, unless it lies in a span of the same trace. From then on `trace` is
/// that of `span`. To be called before the span is entered.
#[cfg_attr(
    not(feature = "otel"),
    expect(unused_variables, reason = "there is nothing to join")
)]
pub(crate) fn join(span: &Span, trace: &mut Option<Arc<TraceContext>>) {
    #[cfg(feature = "otel")]
    otel::join(span, trace);
}

/// Makes `span` a child of the span that `parent` names, whatever it lies in. To be called before the
/// span is entered.
#[cfg(feature = "lm")]
#[cfg_attr(
    not(feature = "otel"),
    expect(unused_variables, reason = "there is nothing to follow")
)]
pub(crate) fn follow(span: &Span, parent: &TraceContext) {
    #[cfg(feature = "otel")]
    otel::follow(span, parent);
}

/// The trace that a request is sent in which is made in `span` by a call of `trace`.
pub(crate) fn outgoing(span: &Span, trace: Option<Arc<TraceContext>>) -> Option<Arc<TraceContext>> {
    #[cfg(feature = "otel")]
    if let Some(current) = otel::trace_of(span) {
        return Some(Arc::new(current));
    }
    let _ = span;
    trace
}

/// Ends what `span` covers, now. An exporter takes the last time that a span was left as its end, while
/// the work of ours goes on where its span is not entered, such as in Python.
pub(crate) fn end(span: &Span) {
    span.in_scope(|| ());
}

/// Records a list that has this one text; in the fields of a subscriber that exports nothing, the text.
#[cfg(feature = "lm")]
pub(crate) fn record_list(span: &Span, name: &'static str, only: &str) {
    #[cfg(feature = "otel")]
    if otel::set_list(span, name, only) {
        return;
    }
    span.record(name, only);
}

/// Records that what `span` covers failed with an error of this type. The span needs the fields
/// [`names::ERROR_TYPE`] and [`names::STATUS_CODE`].
pub(crate) fn record_error(span: &Span, error_type: &str) {
    span.record(names::ERROR_TYPE, error_type);
    span.record(names::STATUS_CODE, "ERROR");
}
