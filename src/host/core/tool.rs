//! Calls of Rust tools by a program: an exchange with a function of the user's.

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::{
    runtime::Handle,
    task::{JoinError, JoinSet},
    time::timeout_at,
};

use super::{
    call_state::ExchangeAbort,
    event::{Event, ExchangeFailure},
    exchange::{Caller, NewExchange},
    tool_definition::{Tool, ToolCall},
};
use crate::error::messages;

/// A tool, and the runtime that it runs on.
#[derive(Debug)]
pub(crate) struct HostedTool {
    pub(crate) tool: Tool,
    pub(crate) runtime: Handle,
}

/// Calls a tool with these arguments; `None` if the call may not call one any more.
pub(crate) fn call(
    exchange: NewExchange,
    tool: Arc<HostedTool>,
    arguments: Map<String, Value>,
    caller: Caller,
) -> Result<Option<ExchangeAbort>, String> {
    let mut call = ToolCall::new(arguments);
    (call.context, call.tenant) = (caller.context, caller.tenant);
    exchange.start(|_| run(tool, call))
}

/// Runs one call; its result is the event.
///
/// The function has a task of its own, on another runtime: a panic ends that task alone, and when
/// this future is dropped the task is aborted.
async fn run(hosted: Arc<HostedTool>, call: ToolCall) -> Event {
    let deadline = call.context.deadline;
    let mut task = JoinSet::new();
    task.spawn_on(hosted.tool.clone().run(call), &hosted.runtime);
    let joined = match deadline {
        None => task.join_next().await,
        Some(deadline) => match timeout_at(deadline.instant(), task.join_next()).await {
            Ok(joined) => joined,
            Err(_) => {
                drop(task);
                // The call's own deadline: its cancel follows, and is the one event.
                std::future::pending().await
            }
        },
    };
    match joined {
        Some(Ok(Ok(value))) => Event::Value(value),
        Some(Ok(Err(error))) => Event::Failed(ExchangeFailure::Tool(messages(&*error))),
        Some(Err(error)) => Event::Failed(ExchangeFailure::Tool(ended(hosted.tool.name(), error))),
        None => Event::Failed(ExchangeFailure::Tool("the tool did not start".into())),
    }
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
