//! The builder of a pool of workers.

use std::{path::PathBuf, sync::Arc, thread::Builder, time::Duration};

use tokio::{runtime, sync::oneshot};

use super::{
    handle::PoolHandle, phase::OverdueLimits, pool::Pool, pool_settings::PoolSettings,
    process::SpawnSettings, recycle::RecycleLimits, stats::PoolCounts,
};
use crate::host::{
    core::{host_core::HostCore, host_thread::HostThread},
    env::PythonEnv,
    start_error::StartError,
};

/// Threads for the sync programs of a worker, unless [`Workers::sync_threads`] says otherwise.
const SYNC_THREADS: usize = 64;

/// A host to be, from [`Host::workers`](crate::Host::workers).
///
/// ```no_run
/// use tower_dspy::{Host, Lm};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let host = Host::workers(4).venv(".venv").start().await?;
/// let lm = Lm::new("openai/gpt-4o-mini").key_env("OPENAI_API_KEY");
/// let qa = host.load("my_pkg.qa:Program").lm(lm).max_in_flight(64).await?;
/// # Ok(())
/// # }
/// ```
///
/// # How it differs from [`Host::embedded`](crate::Host::embedded)
/// The programs run in child processes, so that as many of them compute at once as there are
/// workers, and what cannot be stopped in one is stopped with its process. A call costs more: all
/// that crosses is written to a socket and read again. A process may have several such hosts, needs
/// no libpython, and may start another after one was stopped. LM calls are made by this process all the same: limits,
/// layers, keys and counts hold for all workers together.
///
/// Each program is loaded in each worker; what it keeps in memory, each has for itself.
///
/// # A worker that ends
/// Its calls answer [`Lost`](crate::Lost), with what they had spent, and another takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is started before `start`"]
pub struct Workers {
    workers: usize,
    venv: Option<PathBuf>,
    python_path: Vec<PathBuf>,
    sync_threads: usize,
    passed_keys: Vec<String>,
    kill_after: Duration,
    retire_after: Duration,
    fork: bool,
    memory_limit: Option<u64>,
    recycle: RecycleLimits,
}

impl Workers {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers: workers.max(1),
            venv: None,
            python_path: Vec::new(),
            sync_threads: SYNC_THREADS,
            passed_keys: Vec::new(),
            kill_after: Duration::from_secs(1),
            retire_after: Duration::from_secs(10),
            fork: true,
            memory_limit: None,
            recycle: RecycleLimits::default(),
        }
    }

    /// The venv that holds DSPy: of any Python from 3.11 on.
    ///
    /// Without it, the first of these is taken: `$VIRTUAL_ENV`, a `.venv` in the working directory
    /// or above it, the venv of `$PYO3_PYTHON`.
    pub fn venv(mut self, path: impl Into<PathBuf>) -> Self {
        self.venv = Some(path.into());
        self
    }

    /// Looks for programs in this folder too, before all others; may be given more than once.
    pub fn python_path(mut self, folder: impl Into<PathBuf>) -> Self {
        self.python_path.push(folder.into());
        self
    }

    /// How many threads the sync programs of one worker share: 64 unless said otherwise, at least 1.
    /// They are made as they are needed; a call beyond them waits for one, in flight.
    pub fn sync_threads(mut self, threads: usize) -> Self {
        self.sync_threads = threads.max(1);
        self
    }

    /// Leaves this variable of the environment to the workers, although it holds a provider's key.
    /// May be given more than once.
    ///
    /// A worker is started without the variables that providers' keys are usually in, such as
    /// `OPENAI_API_KEY`: an [`Lm`](crate::Lm) takes its key in this process, and what runs in a
    /// worker cannot give it away. A program that asks a provider past its LM, as an embedder does,
    /// needs the key itself.
    pub fn pass_key(mut self, variable: impl Into<String>) -> Self {
        self.passed_keys.push(variable.into());
        self
    }

    /// How long a call may hold its worker up after it was told to stop: 1 second unless said
    /// otherwise. Then the worker is killed, by SIGTERM and 50 ms later by SIGKILL, and its other
    /// calls are lost.
    pub fn kill_after(mut self, grace: Duration) -> Self {
        self.kill_after = grace;
        self
    }

    /// How long a call may go on after it was told to stop, while its worker works on for others:
    /// 10 seconds unless said otherwise. Then the worker is replaced, and killed once it has no
    /// other calls.
    pub fn retire_after(mut self, grace: Duration) -> Self {
        self.retire_after = grace;
        self
    }

    /// Replaces a worker that takes more memory than this, in bytes of resident memory as `ps` and
    /// `top` tell it; unlimited unless said otherwise. What DSPy takes is part of it, some 70 MiB.
    ///
    /// Looked at about every 200 ms, once the worker has had a call. Another worker is started and
    /// takes over the next calls; the old one ends when those that it has do. So it is no bound:
    /// that is [`memory_limit`](Self::memory_limit).
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.recycle.max_memory = Some(bytes);
        self
    }

    /// Replaces a worker, in the same way, once it was given as many calls; unlimited unless said
    /// otherwise, at least 1. It gets some more until the other one is there.
    pub fn max_calls(mut self, calls: u64) -> Self {
        self.recycle.max_calls = Some(calls.max(1));
        self
    }

    /// Replaces a worker, in the same way, once it has served as long; unlimited unless said
    /// otherwise.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.recycle.max_age = Some(age);
        self
    }

    /// The most memory of its own that a worker can get, in bytes; unlimited unless said otherwise.
    ///
    /// The system refuses more (`RLIMIT_DATA`, also for what the worker starts): Python raises
    /// `MemoryError`, which fails the call that asked, and code that does not expect it may crash,
    /// which costs the worker. What is mapped and writable counts, used or not: some 60 MiB before
    /// the first program is loaded, and 8 MiB for the stack of each thread. A worker does not start
    /// with less than it takes by itself.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// Whether workers are forked from a process that has imported DSPy: yes, unless said otherwise.
    ///
    /// A worker that takes another's place is then there within some 10 ms, and what DSPy's
    /// modules take in memory is there once for all workers. That process, the *zygote*, has one
    /// thread, runs no program and makes no connection. When it ends, the workers do: their calls
    /// answer [`Lost`](crate::Lost), and all start anew.
    ///
    /// Without it each worker is started by itself, and imports DSPy by itself, which takes about
    /// a second of a core. That is also what is done, with a warning, where importing DSPy leaves
    /// a thread behind, as something that is installed beside it may: a process with threads cannot
    /// be forked safely.
    pub fn fork(mut self, yes: bool) -> Self {
        self.fork = yes;
        self
    }

    /// Starts the pool, and waits until all workers are ready. Dropping the future ends the pool.
    pub(crate) async fn start_pool(self) -> Result<StartedPool, StartError> {
        let system = |error: std::io::Error| StartError::Interpreter {
            reason: error.to_string(),
        };
        let env = PythonEnv::find_standalone(self.venv.as_deref())?;
        let settings = PoolSettings {
            workers: self.workers,
            spawn: SpawnSettings {
                python: env.python().to_path_buf(),
                python_path: self.python_path,
                sync_threads: self.sync_threads,
                passed_keys: self.passed_keys,
                memory_limit: self.memory_limit,
            },
            fork: self.fork,
            overdue: OverdueLimits {
                kill_after: self.kill_after,
                retire_after: self.retire_after,
            },
            recycle: self.recycle,
        };
        let core = HostCore::new(usize::MAX).map_err(system)?;
        let counts = Arc::<PoolCounts>::default();
        let workers = PoolHandle {
            counts: counts.clone(),
            queue: core.queue.clone(),
        };
        let (ready, started) = oneshot::channel();
        let shared = core.clone();
        let builder = Builder::new().name("tower-dspy-workers".into());
        let queue = core.queue.clone();
        let run = move || {
            let pool = Pool::new(core, settings, counts, ready);
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            if let Err(error) = runtime.and_then(|runtime| runtime.block_on(pool.run())) {
                tracing::error!(target: "tower_dspy", %error, "the pool of workers failed");
            }
        };
        let thread = HostThread::spawn(builder, queue, "its workers were stopped", run);
        let pool = StartedPool {
            core: shared,
            thread: thread.map_err(system)?,
            workers,
        };
        match started.await {
            Ok(Ok(())) => Ok(pool),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StartError::Interpreter {
                reason: "the pool's thread ended".into(),
            }),
        }
    }
}

/// A pool whose workers are ready.
pub(crate) struct StartedPool {
    pub(crate) core: HostCore,
    pub(crate) thread: HostThread,
    pub(crate) workers: PoolHandle,
}
