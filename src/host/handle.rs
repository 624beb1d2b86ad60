//! The handle to a host.

use std::{fmt, sync::Arc, time::Duration};

#[cfg(feature = "workers")]
use serde_json::Value;
use tokio::time::timeout;

use crate::call::Cause;
#[cfg(feature = "metrics")]
use crate::host::core::counters::EmittedTotals;
use crate::host::core::{
    health::Health, host_core::HostCore, host_thread::HostThread, lm_table::LmStats,
    stats::HostStats,
};
#[cfg(feature = "python")]
use crate::host::{core::loop_monitor::LoopMonitor, embedded::Embedded};
#[cfg(feature = "workers")]
use crate::host::{
    core::{fault::Fault, queue::Command, registry::Registrations},
    workers::{PoolHandle, WorkerStats, Workers},
};

/// The time, after the grace of a stop, for the loop to close and its thread to end.
#[cfg(feature = "python")]
const HOST_STOP_MARGIN: Duration = Duration::from_secs(1);
/// The same for the processes of a pool. Those of a zygote that hangs take the longest: its workers
/// are killed 1 s after the grace, and 2 s later it is killed for not reporting their exits.
#[cfg(feature = "workers")]
const POOL_STOP_MARGIN: Duration = Duration::from_secs(5);

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
#[derive(Clone)]
pub struct Host {
    core: HostCore,
    backend: Backend,
    thread: HostThread,
    /// Of the servers that end with it.
    #[cfg(feature = "axum")]
    shutdown: crate::layers::Shutdown,
}

/// Where the programs of a host run.
#[derive(Clone)]
pub(super) enum Backend {
    #[cfg(feature = "python")]
    Embedded(Arc<LoopMonitor>),
    /// Worker processes, which end with the last handle.
    #[cfg(feature = "workers")]
    Workers(Arc<PoolHandle>),
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

    pub(super) fn new(core: HostCore, backend: Backend, thread: HostThread) -> Self {
        Self {
            core,
            backend,
            thread,
            #[cfg(feature = "axum")]
            shutdown: crate::layers::Shutdown::new(),
        }
    }

    /// The state of the worker processes; `None` for a host that has none.
    #[cfg(feature = "workers")]
    #[must_use]
    pub fn worker_stats(&self) -> Option<WorkerStats> {
        match &self.backend {
            #[cfg(feature = "python")]
            Backend::Embedded(_) => None,
            Backend::Workers(workers) => Some(workers.stats()),
        }
    }

    /// Whether the programs run in this process.
    #[cfg(feature = "pyo3-async-runtimes")]
    pub(super) const fn is_embedded(&self) -> bool {
        matches!(self.backend, Backend::Embedded(_))
    }

    /// Where its programs run.
    #[cfg(feature = "metrics")]
    pub(crate) const fn kind(&self) -> &'static str {
        match &self.backend {
            #[cfg(feature = "python")]
            Backend::Embedded(_) => "embedded",
            #[cfg(feature = "workers")]
            Backend::Workers(_) => "workers",
        }
    }

    /// The version of DSPy that its programs run with.
    #[must_use]
    pub fn dspy_version(&self) -> &str {
        &self.core.dspy_version
    }

    /// The host's counters.
    #[must_use]
    pub fn stats(&self) -> HostStats {
        self.core.stats()
    }

    /// The LM calls by provider and model, sorted by their names: at most 64 of them and one row for
    /// all others.
    #[must_use]
    pub fn lm_stats(&self) -> Vec<LmStats> {
        self.core.counters.lm_stats()
    }

    /// The health of the host, judged by its heartbeat, without the GIL. That of a host with worker
    /// processes is the best of those that take calls; its [stats](Self::worker_stats) have each.
    #[must_use]
    pub fn health(&self) -> Health {
        if self.closed().is_some() {
            return Health::Lost;
        }
        match &self.backend {
            #[cfg(feature = "python")]
            Backend::Embedded(monitor) => match (monitor.health(), self.exhausted()) {
                (Health::Ready, Some(abandoned)) => Health::Exhausted { abandoned },
                (health, _) => health,
            },
            #[cfg(feature = "workers")]
            Backend::Workers(workers) => workers.health(),
        }
    }

    /// How late the heartbeat of Python's loop is; of workers that take calls, the latest. `None` if
    /// none does.
    #[cfg(feature = "metrics")]
    pub(crate) fn loop_lag(&self) -> Option<Duration> {
        match &self.backend {
            #[cfg(feature = "python")]
            Backend::Embedded(monitor) => Some(monitor.lag()),
            #[cfg(feature = "workers")]
            Backend::Workers(workers) => workers.loop_lag(),
        }
    }

    /// What these totals have grown by since metrics were last told.
    #[cfg(feature = "metrics")]
    pub(crate) fn growth(&self, totals: EmittedTotals) -> EmittedTotals {
        self.core.counters.growth(totals)
    }

    /// Stops the host: calls from now on fail at once, those in flight are cancelled and have
    /// `grace` to clean up. Returns when Python's thread has ended.
    ///
    /// What does not stop by then stays counted in [`HostStats::running`]: threads until they end,
    /// which settles their calls, and the rest, of which no code runs any more, until the end of the
    /// process. Code that blocks the loop cannot be stopped from here, so the wait ends a second after
    /// the grace at the latest. Worker processes are killed if they do not stop: the wait is for the
    /// end of all of them, 5 seconds after the grace at the latest.
    ///
    /// An interpreter is started once in a process, so a stopped host cannot be started again.
    pub async fn stop(&self, grace: Duration) -> HostStats {
        self.core.queue.stop(grace);
        let limit = grace.saturating_add(self.stop_margin());
        if timeout(limit, self.thread.join()).await.is_err() {
            let late = match &self.backend {
                #[cfg(feature = "python")]
                Backend::Embedded(_) => "Python code blocks the loop, which did not stop",
                #[cfg(feature = "workers")]
                Backend::Workers(_) => "worker processes did not end",
            };
            tracing::warn!(target: "tower_dspy", "{late}");
        }
        self.stats()
    }

    /// How long [`stop`](Self::stop) waits beyond its grace.
    pub(crate) const fn stop_margin(&self) -> Duration {
        match &self.backend {
            #[cfg(feature = "python")]
            Backend::Embedded(_) => HOST_STOP_MARGIN,
            #[cfg(feature = "workers")]
            Backend::Workers(_) => POOL_STOP_MARGIN,
        }
    }

    #[cfg(feature = "axum")]
    pub(crate) const fn shutdown_handle(&self) -> &crate::layers::Shutdown {
        &self.shutdown
    }

    /// Has `spec` loaded in place of `target`, in worker processes; an error of text if the host has
    /// none.
    #[cfg(feature = "workers")]
    pub(crate) async fn replace(
        &self,
        target: u64,
        spec: Value,
        registrations: Registrations,
        taken_over: impl FnOnce(Registrations) + Send + 'static,
    ) -> Result<Option<Result<(), Fault>>, &'static str> {
        match &self.backend {
            #[cfg(feature = "python")]
            Backend::Embedded(_) => Err(
                "this host is embedded, and an interpreter imports a module once: a program is \
                 replaced in worker processes, by `Host::workers`; here it can be loaded as \
                 another service",
            ),
            Backend::Workers(_) => {
                let replace = |reply| Command::Replace {
                    target,
                    spec,
                    registrations,
                    taken_over: Box::new(taken_over),
                    reply,
                };
                Ok(self.core.request(replace).await)
            }
        }
    }

    /// Whether both are handles to one host.
    #[cfg(feature = "workers")]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core.queue, &other.core.queue)
    }

    pub(crate) const fn core(&self) -> &HostCore {
        &self.core
    }

    /// The number of abandoned threads, if sync programs are refused because of them.
    pub(crate) fn exhausted(&self) -> Option<u64> {
        self.core.counters.exhausted()
    }

    /// Why the host takes no calls; `None` while it does.
    pub(crate) fn closed(&self) -> Option<&str> {
        self.core.queue.refusal()
    }

    /// The cause of a call that was cancelled without a signal from its future.
    pub(crate) fn cancel_cause(&self) -> Cause {
        match self.closed() {
            Some(_) => Cause::Shutdown,
            None => Cause::Caller,
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}
