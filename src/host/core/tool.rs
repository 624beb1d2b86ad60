//! Calls of Rust tools by a program: an exchange with a function of the user's.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};
use tokio::{
    runtime::Handle,
    task::{AbortHandle, JoinError, JoinSet},
};
use tracing::{Instrument, Span, field};

use super::{
    call_state::CallState,
    event::Event,
    exchange::{NewExchange, in_time},
    tool_definition::{Tool, ToolCall},
};
use crate::{
    call::{
        CallId, Deadline, LmOutcome, TraceContext,
        record::{AttemptRecord, ToolId},
    },
    error::messages,
    telemetry::{self, metrics, names},
};

/// A tool, and the runtime that it runs on.
#[derive(Debug)]
pub(crate) struct HostedTool {
    pub(crate) tool: Tool,
    pub(crate) runtime: Handle,
}

/// Calls a tool with these arguments, in the span that Python's headers name; `None` if the call may
/// not call one any more.
pub(crate) fn call(
    exchange: NewExchange,
    tool: Arc<HostedTool>,
    arguments: Map<String, Value>,
    python_trace: &BTreeMap<String, String>,
) -> Result<Option<AbortHandle>, String> {
    let mut tool_call = ToolCall::new(arguments);
    let mut attempt = None;
    let mut parent = Span::none();
    if let Some(call) = &exchange.call {
        tool_call.context = call.context.clone();
        tool_call.tenant = call.route.tenant.clone();
        attempt = Some(call.attempt.clone());
        parent = call.span();
    }
    let id = ToolId::Host(exchange.number);
    let span = span_of(tool.tool.name(), &mut tool_call, &parent, python_trace);
    let in_span = span.clone();
    exchange.start(|_| {
        let call = async move {
            let name = tool.tool.name();
            let mut entry = attempt.map(|attempt| ToolEntry::begin(attempt, id, name, &span));
            let event = run(tool, tool_call, &span).await;
            let failed = !matches!(event, Event::Value(_));
            if failed {
                telemetry::record_error(&span, "_OTHER");
            }
            if let Some(entry) = &mut entry {
                entry.failed = Some(failed);
            }
            event
        };
        call.instrument(in_span)
    })
}

/// The span of a call of a tool, which `call` is then made in.
fn span_of(
    name: &str,
    call: &mut ToolCall,
    parent: &Span,
    python_trace: &BTreeMap<String, String>,
) -> Span {
    let span = open_span(name, call.context.call_id, parent);
    let trace = &mut call.context.trace;
    match TraceContext::from_map(python_trace) {
        Some(of_python) => {
            telemetry::follow(&span, &of_python);
            *trace = telemetry::outgoing(&span, Some(of_python.into()));
        }
        None => parent.in_scope(|| telemetry::join(&span, trace)),
    }
    span
}

fn open_span(name: &str, call_id: Option<CallId>, parent: &Span) -> Span {
    tracing::info_span!(
        target: "tower_dspy",
        parent: parent,
        names::EXECUTE_TOOL,
        { names::SPAN_NAME } = format_args!("execute_tool {name}"),
        { names::OPERATION } = names::EXECUTE_TOOL,
        { names::TOOL_NAME } = name,
        { names::TOOL_TYPE } = "function",
        { names::CALL_ID } = call_id.map(CallId::get),
        { names::ERROR_TYPE } = field::Empty,
        { names::STATUS_CODE } = field::Empty,
    )
}

/// A call of a tool in the record of its program's call, until this is dropped.
struct ToolEntry {
    attempt: Arc<AttemptRecord>,
    id: ToolId,
    span: Span,
    /// `None` if it was dropped before its end.
    failed: Option<bool>,
}

impl ToolEntry {
    fn begin(attempt: Arc<AttemptRecord>, id: ToolId, name: &str, span: &Span) -> Self {
        attempt.begin_tool(id, name);
        Self {
            attempt,
            id,
            span: span.clone(),
            failed: None,
        }
    }
}

impl Drop for ToolEntry {
    fn drop(&mut self) {
        if self.failed.is_none() && self.attempt.stopped() == Some(LmOutcome::Elapsed) {
            telemetry::record_error(&self.span, "timeout");
        }
        record_end(&self.attempt, self.id, self.failed.unwrap_or(true));
    }
}

/// Records that the call of a tool has ended, of the host or of Python.
fn record_end(attempt: &AttemptRecord, id: ToolId, failed: bool) {
    if let Some(tool) = attempt.end_tool(id, failed) {
        metrics::tool_ended(&tool.name, tool.took, tool.failed);
    }
}

/// Records that the program calls a tool of its own, by a number of Python's side. Its span is a child of
/// the call's: it is not Python's current one.
pub(crate) fn begin_python(call: &CallState, number: u64, name: &str) {
    call.attempt.begin_tool(ToolId::Python(number), name);
    let span = open_span(name, call.context.call_id, &call.span());
    call.keep_tool_span(number, span);
}

/// Records that the call of a program's own tool has ended.
pub(crate) fn end_python(call: &CallState, number: u64, failed: bool) {
    if let Some(span) = call.take_tool_span(number) {
        if failed {
            match call.attempt.stopped() {
                None => telemetry::record_error(&span, "_OTHER"),
                Some(LmOutcome::Elapsed) => telemetry::record_error(&span, "timeout"),
                // A cancel is no error.
                Some(_) => {}
            }
        }
        telemetry::end(&span);
    }
    record_end(&call.attempt, ToolId::Python(number), failed);
}

/// Runs one call; its result is the event.
///
/// The function has a task of its own, on another runtime: a panic ends that task alone, and when
/// this future is dropped the task is aborted.
async fn run(hosted: Arc<HostedTool>, call: ToolCall, span: &Span) -> Event {
    let limit = call.context.deadline.map(Deadline::remaining);
    let mut task = JoinSet::new();
    let tool = hosted.tool.clone().run(call).instrument(span.clone());
    task.spawn_on(tool, &hosted.runtime);
    let Some(joined) = in_time(limit, task.join_next()).await else {
        drop(task);
        // The call's own deadline: its cancel follows, and is the one event.
        return std::future::pending().await;
    };
    let failure = match joined {
        Some(Ok(Ok(value))) => return Event::Value(value),
        Some(Ok(Err(error))) => messages(&*error),
        Some(Err(error)) => ended(hosted.tool.name(), error),
        None => "the tool did not start".into(),
    };
    Event::Failed("tool", failure)
}

/// The message for a task that ended without an answer.
fn ended(tool: &str, error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(_) => {
            // The panic's message may repeat the arguments; the panic hook prints it.
            tracing::error!(target: "tower_dspy", tool, "a tool panicked");
            format!("the tool `{tool}` panicked")
        }
        Err(_) => format!("the runtime that the tool `{tool}` runs on has been shut down"),
    }
}
