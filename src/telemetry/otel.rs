//! Spans of `tracing` as spans of OpenTelemetry.

use std::sync::Arc;

#[cfg(feature = "lm")]
use opentelemetry::{Array, Value};
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::call::TraceContext;

pub(super) fn join(span: &Span, trace: &mut Option<Arc<TraceContext>>) {
    if span.is_disabled() {
        return;
    }
    if let Some(remote) = &*trace {
        let (trace_id, _, _) = remote.parts();
        let around = trace_of(&Span::current());
        if around.is_none_or(|around| around.parts().0 != trace_id) {
            follow(span, remote);
        }
    }
    if let Some(own) = trace_of(span) {
        *trace = Some(Arc::new(own));
    }
}

pub(super) fn follow(span: &Span, parent: &TraceContext) {
    let (trace_id, parent_id, flags) = parent.parts();
    let parent = SpanContext::new(
        TraceId::from(trace_id),
        SpanId::from(parent_id),
        TraceFlags::new(flags),
        true,
        parent
            .tracestate()
            .parse::<TraceState>()
            .unwrap_or_default(),
    );
    // Fails where no layer exports spans.
    let _ = span.set_parent(Context::new().with_remote_span_context(parent));
}

/// Sets an attribute to a list of one text; false if no layer exports the span.
#[cfg(feature = "lm")]
pub(super) fn set_list(span: &Span, name: &'static str, only: &str) -> bool {
    let is_exported = trace_of(span).is_some();
    if is_exported {
        let list = vec![only.to_owned().into()];
        span.set_attribute(name, Value::Array(Array::String(list)));
    }
    is_exported
}

/// The context of a span; `None` if no layer exports it.
pub(super) fn trace_of(span: &Span) -> Option<TraceContext> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let span = context.span();
    let context = span.span_context();
    context.is_valid().then(|| {
        TraceContext::new(
            u128::from_be_bytes(context.trace_id().to_bytes()),
            u64::from_be_bytes(context.span_id().to_bytes()),
            context.trace_flags().to_u8(),
            &context.trace_state().header(),
        )
    })
}
