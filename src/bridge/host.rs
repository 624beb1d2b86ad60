//! The handle to what runs Python.

use std::{sync::Arc, thread::JoinHandle, time::Duration};

use serde_json::Value;
use tokio::{
    sync::{Mutex, oneshot, watch},
    task::spawn_blocking,
    time::timeout,
};

use super::{
    Call, Fault, Health, Held,
    call::CallState,
    embedded::Embedded,
    inbox::{self, Control, Inbox, Start},
};
use crate::{CallContext, Deadline, lm::LmHandle};

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
}

impl Host {
    /// A host inside this process. A process can have one.
    pub fn embedded() -> Embedded {
        Embedded::new()
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
        }
    }

    /// What the host has done and is doing.
    #[must_use]
    pub fn stats(&self) -> HostStats {
        let counters = &self.inbox.counters;
        // Read in this order a call can be missing from `running`, never counted twice.
        let settled = counters.settled.get();
        let never_started = counters.never_started.get();
        let started = counters.started.get();
        HostStats {
            submitted: counters.submitted.get(),
            queued: self.inbox.queued() as u64,
            running: started.saturating_sub(settled.saturating_sub(never_started)),
            settled,
            orphans: counters.orphans.get(),
            cancelled: counters.cancelled.get(),
            strays: counters.strays.get(),
            in_lm_calls: counters.in_lm_calls.get(),
            abandoned: counters.abandoned.get(),
            replaced: counters.replaced.get(),
            queue_age: self.inbox.queue_age(),
        }
    }

    /// How the host is, judged by its heartbeat; takes no lock and no GIL.
    #[must_use]
    pub fn health(&self) -> Health {
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

    /// Sends a call on its way; `held` is dropped when all its work has ended.
    pub(crate) fn submit(
        &self,
        context: CallContext,
        target: u64,
        inputs: Arc<Value>,
        held: Held,
    ) -> Call {
        let remaining = context.deadline.map(Deadline::remaining);
        let (sender, outcome) = oneshot::channel();
        let state = Arc::new(CallState::default());
        let sequence = self.inbox.next_sequence();
        self.inbox.counters.submitted.add(1);
        self.inbox.push_start(Start {
            context,
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

    /// Asks Python's side to load what `spec` names.
    pub(crate) async fn load_spec(&self, spec: Value) -> Option<Result<Value, Fault>> {
        if self.inbox.closed().is_some() {
            return None;
        }
        let (reply, loaded) = oneshot::channel();
        self.inbox.push(Control::Load { spec, reply });
        loaded.await.ok()
    }

    /// Makes an LM known to Python's side, by the id that is returned.
    pub(crate) fn add_lm(&self, lm: LmHandle) -> usize {
        self.inbox.add_lm(lm)
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

/// A reading of the host's counters. They are read one after the other, not at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostStats {
    /// Calls ever handed to the host.
    pub submitted: u64,
    /// Calls that wait for their start.
    pub queued: u64,
    /// Calls that have started and whose work has not ended.
    pub running: u64,
    /// Calls whose work has ended, or never began.
    pub settled: u64,
    /// Calls whose caller has its outcome, or gave up, while their work goes on.
    pub orphans: u64,
    /// Calls that were signalled to stop.
    pub cancelled: u64,
    /// Tasks that calls had left behind.
    pub strays: u64,
    /// LM calls under way: what a host that is healthy and slow waits for.
    pub in_lm_calls: u64,
    /// Threads that did not stop within their grace, were given up and still work; see
    /// [`Embedded::max_abandoned`].
    pub abandoned: u64,
    /// Threads that took the place of an abandoned one.
    pub replaced: u64,
    /// How long the oldest waiting call has waited; an upper bound within one burst.
    pub queue_age: Duration,
}
