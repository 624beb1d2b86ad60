//! Calls of Rust tools by a program: like an exchange with an LM, but with a function of the
//! user's at the other end.

use std::{error::Error, fmt::Write, sync::Arc};

use tokio::{
    runtime::Handle,
    task::{JoinError, JoinSet},
    time::timeout_at,
};

use super::exchange::{Event, Failure};
use super::tool_definition::{Tool, ToolCall};

/// A tool, and the runtime that it runs on.
#[derive(Debug)]
pub(crate) struct Offered {
    pub(crate) tool: Tool,
    pub(crate) runtime: Handle,
}

/// Runs one call; its end is the event.
///
/// The function has a task of its own, on another runtime: a panic ends that task alone, and when
/// this future is dropped the task is aborted.
pub(crate) async fn run(offered: Arc<Offered>, call: ToolCall) -> Event {
    let deadline = call.context.deadline;
    let mut task = JoinSet::new();
    task.spawn_on(offered.tool.clone().run(call), &offered.runtime);
    let joined = match deadline {
        None => task.join_next().await,
        Some(deadline) => match timeout_at(deadline.instant(), task.join_next()).await {
            Ok(joined) => joined,
            Err(_) => {
                drop(task);
                // The call is about to be signalled, which says all there is to say.
                std::future::pending().await
            }
        },
    };
    match joined {
        Some(Ok(Ok(value))) => Event::Value(value),
        Some(Ok(Err(error))) => Event::Failed(Failure::Tool(chain(&*error))),
        Some(Err(error)) => Event::Failed(Failure::Tool(ended(offered.tool.name(), error))),
        None => Event::Failed(Failure::Tool("the tool did not start".into())),
    }
}

/// What `error` and its sources say.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let text = source.to_string();
        if !said.contains(&text) {
            let _ = write!(said, ": {text}");
        }
        next = source.source();
    }
    said
}

/// What it means that the task of a tool ended without an answer.
fn ended(tool: &str, error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(_) => {
            // What it says may repeat the arguments, and is on stderr by the panic hook.
            tracing::error!(target: "tower_dspy", tool, "a tool panicked");
            format!("the tool `{tool}` panicked")
        }
        Err(_) => format!("the runtime that the tool `{tool}` runs on has been shut down"),
    }
}
