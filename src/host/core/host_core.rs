//! The parts of a host that its handle shares with its loop.

use std::{io, sync::Arc};

use serde_json::Value;
use tokio::{runtime::Handle, sync::oneshot};

use super::{
    call_handle::{CallHandle, CallSignal},
    call_state::{CallPermit, CallState, CallStream},
    clock,
    counters::HostCounters,
    program_counts::ProgramCounts,
    queue::{Command, CommandQueue, LoadOutcome},
    queued_call::QueuedCall,
    registry::{Registrations, Registry},
    runtime,
    stats::HostStats,
    tool::HostedTool,
    tool_definition::Tool,
};
use crate::{
    call::{Budget, CallContext, Deadline, WorkGuard},
    lm::{Lm, LmConfigError, LmHandle},
    request::Route,
};

/// A call of a program or a function.
#[derive(Default)]
pub(crate) struct NewCall {
    pub(crate) context: CallContext,
    /// The host's number of the program or function.
    pub(crate) target: u64,
    pub(crate) inputs: Arc<Value>,
    /// Held until all work of the call has ended.
    pub(crate) permit: CallPermit,
    /// Of the node in its context.
    pub(crate) work: WorkGuard,
    pub(crate) program: Option<Arc<ProgramCounts>>,
    pub(crate) route: Route,
    pub(crate) stream: Option<CallStream>,
}

/// The parts of one host. A clone shares them.
#[derive(Clone)]
pub(crate) struct HostCore {
    pub(crate) queue: Arc<CommandQueue>,
    pub(crate) counters: Arc<HostCounters>,
    pub(crate) lms: Arc<Registry<LmHandle>>,
    pub(crate) tools: Arc<Registry<HostedTool>>,
    /// The version of DSPy.
    pub(crate) dspy_version: Arc<str>,
    /// The budget that all its LM calls are charged to.
    pub(crate) budget: Option<Budget>,
}

impl HostCore {
    pub(crate) fn new(max_abandoned: usize, dspy_version: &str) -> io::Result<Self> {
        let counters = HostCounters::new(max_abandoned);
        Ok(Self {
            queue: Arc::new(CommandQueue::new()?),
            lms: Arc::default(),
            tools: Arc::default(),
            counters,
            dspy_version: dspy_version.into(),
            budget: None,
        })
    }

    /// Queues a call.
    pub(crate) fn submit(&self, call: NewCall) -> CallHandle {
        let NewCall {
            mut context,
            target,
            inputs,
            permit,
            work,
            program,
            route,
            stream,
        } = call;
        if let Some(budget) = &self.budget {
            context.add_budget(budget);
        }
        let remaining = context.deadline.map(Deadline::remaining);
        let counters = self.counters.clone();
        let state = CallState::new(context, work, route, stream, program, counters);
        let (sender, outcome) = oneshot::channel();
        let sequence = self.queue.next_id();
        self.counters.lock().submitted += 1;
        self.queue.push_call(QueuedCall {
            sequence,
            target,
            inputs,
            remaining,
            queued_at: clock::now(),
            state: state.clone(),
            outcome: sender,
            permit,
        });
        CallHandle {
            outcome,
            signal: CallSignal {
                sequence,
                state,
                queue: self.queue.clone(),
            },
            answered: false,
        }
    }

    /// Pushes a command and waits for the reply; `None` if the host is gone.
    pub(crate) async fn request<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Option<T> {
        if self.queue.refusal().is_some() {
            return None;
        }
        let (reply, answer) = oneshot::channel();
        self.queue.push_command(command(reply));
        answer.await.ok()
    }

    /// Loads `spec` on Python's side, with its registrations; `None` if the host is gone.
    pub(crate) async fn load(
        &self,
        spec: Value,
        registrations: Registrations,
    ) -> Option<LoadOutcome> {
        let load = |reply| Command::Load {
            spec,
            registrations,
            reply,
        };
        self.request(load).await
    }

    /// Registers an LM, which Python's side resolves; returns its number.
    pub(crate) fn add_lm(
        &self,
        lm: &Lm,
        registrations: &mut Registrations,
    ) -> Result<usize, LmConfigError> {
        let runtime = runtime::handle().map_err(|reason| LmConfigError::Client { reason })?;
        // Layers such as a buffer spawn tasks as they are made. These are to live as long as the
        // host, not as the caller's runtime.
        let _entered = runtime.enter();
        let (id, registration) = self.lms.register(lm.prepare()?);
        registrations.add(registration);
        Ok(id)
    }

    /// Registers a tool, which runs on the caller's runtime; returns its number.
    pub(crate) fn add_tool(
        &self,
        tool: Tool,
        registrations: &mut Registrations,
    ) -> Result<usize, String> {
        let runtime = match Handle::try_current() {
            Ok(callers) => callers,
            Err(_) => runtime::handle()?.clone(),
        };
        let (id, registration) = self.tools.register(HostedTool { tool, runtime });
        registrations.add(registration);
        Ok(id)
    }

    pub(crate) fn stats(&self) -> HostStats {
        let (queued, queue_age) = self.queue.waiting();
        HostStats {
            queued: queued as u64,
            queue_age,
            orphan_age: self.counters.orphan_age(),
            ..*self.counters.lock()
        }
    }
}
