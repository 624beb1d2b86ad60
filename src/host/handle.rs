//! The handle to what runs Python.

use std::{sync::Arc, thread::JoinHandle, time::Duration};

use serde_json::Value;
use tokio::{
    runtime::Handle,
    sync::{Mutex, oneshot, watch},
    task::spawn_blocking,
    time::timeout,
};
use tracing::Span;

use crate::host::core::{
    call::{Call, CallState},
    health::Health,
    inbox::{self, Control, Held, Inbox, Loaded, Start},
    registry::{Leases, Numbered},
    runtime,
    spending::{ProgramCounts, Spending},
    stats::HostStats,
    tool::Offered,
};
#[cfg(feature = "python")]
use crate::host::embedded::Embedded;
#[cfg(feature = "workers")]
use crate::host::workers::{Roster, WorkerStats, Workers};
use crate::{
    call::{
        CallContext, Deadline,
        record::{AttemptRecord, CallRecord},
    },
    host::core::tool_definition::Tool,
    lm::{Lm, LmConfigError},
    request::Route,
};

/// What the loop has, after the grace of a stop, to close and to end its thread.
const STOP_MARGIN: Duration = Duration::from_secs(1);

/// What runs DSPy programs: an interpreter with an asyncio loop on a thread of its own.
///
/// A host is started once and cloned freely. Programs are loaded with [`load`](Self::load).
///
/// ```no_run
/// use tower_dspy::{Host, Lm};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let host = Host::embedded().venv(".venv").start().await?;
/// let lm = Lm::new("openai/gpt-4o-mini").key_env("OPENAI_API_KEY");
/// let qa = host.load("my_pkg.qa:Program").lm(lm).max_in_flight(64).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Host {
    inbox: Arc<Inbox>,
    ended: watch::Receiver<bool>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    /// Of the servers that end with it.
    #[cfg(feature = "axum")]
    shutdown: crate::layers::Shutdown,
    /// Of a host with worker processes, which end with the last that could use them.
    #[cfg(feature = "workers")]
    roster: Option<Arc<Roster>>,
}

impl Host {
    /// A host inside this process. A process can have one.
    #[cfg(feature = "python")]
    pub fn embedded() -> Embedded {
        Embedded::new()
    }

    /// A host with as many worker processes; at least one.
    #[cfg(feature = "workers")]
    pub fn workers(workers: usize) -> Workers {
        Workers::new(workers)
    }

    pub(super) fn new(
        inbox: Arc<Inbox>,
        ended: watch::Receiver<bool>,
        thread: JoinHandle<()>,
    ) -> Self {
        Self {
            inbox,
            ended,
            thread: Arc::new(Mutex::new(Some(thread))),
            #[cfg(feature = "axum")]
            shutdown: crate::layers::Shutdown::new(),
            #[cfg(feature = "workers")]
            roster: None,
        }
    }

    #[cfg(feature = "workers")]
    pub(super) fn of_workers(
        inbox: Arc<Inbox>,
        ended: watch::Receiver<bool>,
        thread: JoinHandle<()>,
        roster: Roster,
    ) -> Self {
        Self {
            roster: Some(Arc::new(roster)),
            ..Self::new(inbox, ended, thread)
        }
    }

    /// How the worker processes are; `None` for a host that has none.
    #[cfg(feature = "workers")]
    #[must_use]
    pub fn worker_stats(&self) -> Option<WorkerStats> {
        self.roster.as_ref().map(|roster| roster.stats())
    }

    /// Whether the programs run in this process.
    #[cfg(feature = "python")]
    pub(super) const fn is_embedded(&self) -> bool {
        #[cfg(feature = "workers")]
        return self.roster.is_none();
        #[cfg(not(feature = "workers"))]
        true
    }

    /// What the host has done and is doing.
    #[must_use]
    pub fn stats(&self) -> HostStats {
        HostStats::of(&self.inbox)
    }

    /// How the host is, judged by its heartbeat, without the GIL. One with worker processes is as
    /// the best of those that take calls: how each is, its [stats](Self::worker_stats) tell.
    #[must_use]
    pub fn health(&self) -> Health {
        #[cfg(feature = "workers")]
        if let Some(roster) = &self.roster {
            return roster.health();
        }
        Health::of(&self.inbox)
    }

    /// Stops the host: calls from now on fail at once, those in flight are cancelled and have
    /// `grace` to clean up. Returns when Python's thread has ended.
    ///
    /// What does not stop by then is left to the end of the process and stays counted in
    /// [`HostStats::running`]. Code that blocks the loop cannot be stopped from here, so the wait
    /// ends a second after the grace at the latest.
    ///
    /// An interpreter is started once in a process, so a stopped host cannot be started again.
    pub async fn stop(&self, grace: Duration) -> HostStats {
        self.inbox.stop(grace);
        let mut ended = self.ended.clone();
        let limit = grace.saturating_add(STOP_MARGIN);
        let ended = timeout(limit, async {
            // A thread that is gone without saying so has ended as well.
            let _ = ended.wait_for(|ended| *ended).await;
            // What libraries keep for the thread is freed after that, as it ends. A process that
            // exits meanwhile frees what they keep for all threads: OpenSSL, for one, would free
            // it twice.
            let mut thread = self.thread.lock().await;
            if let Some(thread) = thread.take() {
                let _ = spawn_blocking(|| thread.join()).await;
            }
        })
        .await;
        if ended.is_err() {
            tracing::warn!(target: "tower_dspy", "Python code blocks the loop, which did not stop");
        }
        self.stats()
    }

    #[cfg(feature = "axum")]
    pub(crate) const fn shutdown_handle(&self) -> &crate::layers::Shutdown {
        &self.shutdown
    }

    /// Sends a call on its way; `held` is dropped when all its work has ended.
    pub(crate) fn submit(
        &self,
        mut context: CallContext,
        target: u64,
        inputs: Arc<Value>,
        held: Held,
        program: Option<Arc<ProgramCounts>>,
        route: Route,
    ) -> Call {
        let totals = self.inbox.lm_counters.clone();
        // Not further: LM calls and tools of the program are no attempts of this call.
        let record = context.record.take().unwrap_or_else(CallRecord::open);
        let attempt = AttemptRecord::new(record, context.attempt, Some(totals.clone()));
        let spending = Spending::new(attempt, totals, program);
        let remaining = context.deadline.map(Deadline::remaining);
        let (sender, outcome) = oneshot::channel();
        let state = Arc::new(CallState::new(spending));
        let sequence = self.inbox.next_sequence();
        self.inbox.counters.submitted.add(1);
        self.inbox.push_start(Start {
            context,
            route,
            span: Span::current(),
            sequence,
            target,
            inputs,
            remaining,
            queued_at: inbox::now(),
            state: state.clone(),
            outcome: sender,
            held,
        });
        Call::new(sequence, outcome, state, self.inbox.clone())
    }

    /// Asks Python's side to load what `spec` names, with what the `leases` hold.
    pub(crate) async fn load_spec(&self, spec: Value, leases: Leases) -> Option<Loaded> {
        if self.inbox.closed().is_some() {
            return None;
        }
        let (reply, loaded) = oneshot::channel();
        self.inbox.push(Control::Load {
            spec,
            leases,
            reply,
        });
        loaded.await.ok()
    }

    /// Has what `spec` names loaded in place of `target`, with what the `leases` hold; an error of
    /// text if the host cannot.
    #[cfg(feature = "workers")]
    pub(crate) async fn replace_spec(
        &self,
        target: u64,
        spec: Value,
        leases: Leases,
        taken_over: impl FnOnce(Leases) + Send + 'static,
    ) -> Result<Option<Result<(), crate::host::core::fault::Fault>>, &'static str> {
        if self.roster.is_none() {
            return Err(
                "this host is embedded, and an interpreter imports a module once: a program is \
                 replaced in worker processes, by `Host::workers`; here it can be loaded as \
                 another service",
            );
        }
        if self.inbox.closed().is_some() {
            return Ok(None);
        }
        let (reply, replaced) = oneshot::channel();
        self.inbox.push(Control::Replace {
            target,
            spec,
            leases,
            taken_over: Box::new(taken_over),
            reply,
        });
        Ok(replaced.await.ok())
    }

    /// Whether both are handles to one host.
    #[cfg(feature = "workers")]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inbox, &other.inbox)
    }

    /// What a program that is about to be loaded holds; nothing yet.
    pub(crate) fn leases(&self) -> Leases {
        Leases::new(self.inbox.clone())
    }

    /// Makes an LM known to Python's side, by the id that is returned, while the `leases` are held.
    pub(crate) fn add_lm(&self, lm: &Lm, leases: &mut Leases) -> Result<usize, LmConfigError> {
        let runtime = runtime::handle().map_err(|reason| LmConfigError::Client { reason })?;
        // Layers such as a buffer spawn what they need as they are made. It has to live as long as
        // the host, not as the caller's runtime.
        let _entered = runtime.enter();
        let id = self.inbox.lms.add(lm.connect()?);
        leases.hold(Numbered::Lm(id));
        Ok(id)
    }

    /// Makes a tool known to Python's side, by the id that is returned, while the `leases` are
    /// held. It runs on the caller's runtime.
    pub(crate) fn add_tool(&self, tool: Tool, leases: &mut Leases) -> Result<usize, String> {
        let runtime = match Handle::try_current() {
            Ok(callers) => callers,
            Err(_) => runtime::handle()?.clone(),
        };
        let id = self.inbox.tools.add(Offered { tool, runtime });
        leases.hold(Numbered::Tool(id));
        Ok(id)
    }

    /// How many threads are abandoned, if sync programs are refused for that.
    pub(crate) fn exhausted(&self) -> Option<u64> {
        self.inbox.exhausted()
    }

    /// Why the host takes no calls; `None` while it does.
    pub(crate) fn closed(&self) -> Option<&str> {
        self.inbox.closed()
    }
}
