//! The settings of a pool of workers.

use std::{path::PathBuf, time::Duration};

use super::{life::OverdueLimits, process::SpawnSettings, recycle::RecycleLimits};
use crate::{
    call::Budget,
    host::{
        core::load_limit::{LOAD_LIMIT, LONGEST_LOAD_LIMIT},
        env::VenvChoice,
    },
};

/// Threads for the sync programs of a worker, if [`Workers::sync_threads`] sets no other number.
const SYNC_THREADS: usize = 64;
/// The default of [`Workers::start_limit`].
const START_LIMIT: Duration = Duration::from_secs(5 * 60);

/// The settings of a host with worker processes, from [`Host::workers`](crate::Host::workers).
///
/// ```no_run
/// use tower_dspy::{Host, Lm};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let host = Host::workers(4).create_venv(".venv").start().await?;
/// let lm = Lm::new("openai/gpt-4o-mini").key_env("OPENAI_API_KEY");
/// let qa = host.load("my_pkg.qa:Program").lm(lm).max_in_flight(64).await?;
/// # Ok(())
/// # }
/// ```
///
/// # How it differs from [`Host::embedded`](crate::Host::embedded)
/// The programs run in child processes. So as many compute at once as there are workers, and code
/// that cannot be stopped is stopped with its process. A call costs more: its inputs, its LM calls
/// and its outcome go through a socket. A process may have several such hosts, needs no libpython,
/// and may start another host after it stopped one. LM calls are made by this process all the same:
/// limits, layers, keys and counts hold for all workers together.
///
/// Each program is loaded in each worker, and keeps its state in memory there.
///
/// # A worker that ends
/// Its calls answer [`Lost`](crate::Lost), with what they had spent, and another takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is started before `start`"]
pub struct Workers {
    pub(super) workers: usize,
    pub(super) venv: VenvChoice,
    pub(super) spawn: SpawnSettings,
    /// Until a process has imported DSPy.
    pub(super) start_limit: Duration,
    /// Whether workers are forked from a zygote.
    pub(super) fork: bool,
    pub(super) overdue: OverdueLimits,
    pub(super) recycle: RecycleLimits,
    pub(super) budget: Option<Budget>,
}

/// The time that processes have.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeLimits {
    /// Until a process has imported DSPy.
    pub(super) start: Duration,
    /// Of the loading of one program.
    pub(super) load: Duration,
}

impl Workers {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers: workers.max(1),
            venv: VenvChoice::Find,
            spawn: SpawnSettings {
                // Known at the start.
                python: PathBuf::new(),
                python_path: Vec::new(),
                working_dir: None,
                sync_threads: SYNC_THREADS,
                passed_keys: Vec::new(),
                memory_limit: None,
                load_limit: LOAD_LIMIT,
            },
            start_limit: START_LIMIT,
            fork: true,
            overdue: OverdueLimits {
                kill_after: Duration::from_secs(1),
                retire_after: Duration::from_secs(10),
            },
            recycle: RecycleLimits::default(),
            budget: None,
        }
    }

    /// The venv that holds DSPy: of any Python from 3.11 on.
    ///
    /// Without it, the first of these is taken: `$VIRTUAL_ENV`, a `.venv` in the working directory
    /// or above it, the venv of `$PYO3_PYTHON`.
    pub fn venv(mut self, path: impl Into<PathBuf>) -> Self {
        self.venv = VenvChoice::Use(path.into());
        self
    }

    /// Uses the venv at `path`, and makes it if there is none, with the packages that this crate was
    /// tested with: once, some seconds with uv and a minute or two with pip, some 300 MB. Events of
    /// target `tower_dspy` say so at level info, and tell each step at debug. It is made with the newest of `python3.13`, `python3.12`,
    /// `python3.11` and `python3` in `PATH` that is 3.11 or newer.
    ///
    /// A venv that fits is never changed, as other processes may use it;
    /// [`PythonEnv::create`](crate::host::env::PythonEnv::create) updates its packages. A venv that does not
    /// fit is made again if this crate made it; else the start fails.
    /// Several processes may do this at once: one makes the venv, the others wait for it.
    ///
    /// # Cancel safety
    /// Dropping the future of the start does not stop this: the venv is made to its end, and the next
    /// start finds it.
    pub fn create_venv(mut self, path: impl Into<PathBuf>) -> Self {
        self.venv = VenvChoice::Create(path.into());
        self
    }

    /// Looks for programs in this folder, before all others; may be given more than once.
    ///
    /// Without it, programs are looked for in the working directory as well, after all others: the
    /// working directory that this process has when the host starts. So `programs/qa.py` beside
    /// `Cargo.toml` is `programs.qa:Program`. No file there takes the place of an installed package, but a
    /// folder or a file with the name of a package that is not installed can be imported as that.
    pub fn python_path(mut self, folder: impl Into<PathBuf>) -> Self {
        self.spawn.python_path.push(folder.into());
        self
    }

    /// How many threads the sync programs of one worker share: 64 by default, at least 1. A thread
    /// is started when it is needed; a call that finds none free waits for one, in flight.
    pub fn sync_threads(mut self, threads: usize) -> Self {
        self.spawn.sync_threads = threads.max(1);
        self
    }

    /// Lets the workers inherit this variable of the environment, although it holds a provider's
    /// key. May be given more than once.
    ///
    /// A worker is started without the variables that providers' keys are usually in, such as
    /// `OPENAI_API_KEY`: an [`Lm`](crate::Lm) takes its key in this process, and what runs in a
    /// worker cannot give it away. A program that asks a provider past its LM, as an embedder does,
    /// needs the key itself.
    pub fn pass_key(mut self, variable: impl Into<String>) -> Self {
        self.spawn.passed_keys.push(variable.into());
        self
    }

    /// How long a process may take to start and to import DSPy: 5 minutes by default, which a slow disk
    /// does not reach. Then it is killed. If that was at the start of the host, the start fails with an
    /// error that names this setting; later the worker is lost, and started anew. There is no least
    /// limit: with zero no host starts.
    pub fn start_limit(mut self, limit: Duration) -> Self {
        self.start_limit = limit;
        self
    }

    /// How long the loading of one program may take in a worker, from when it begins there: 30 minutes
    /// by default, a year at most. The download of a model belongs to it; the wait for the loads before
    /// it does not. Then the load fails, with
    /// [`LoadErrorKind::Elapsed`](crate::LoadErrorKind::Elapsed), and the loads after it begin.
    /// A worker whose loop the load has blocked for as long is killed. There is no least limit: with
    /// zero each load fails that has a part on a thread.
    pub fn load_limit(mut self, limit: Duration) -> Self {
        self.spawn.load_limit = limit.min(LONGEST_LOAD_LIMIT);
        self
    }

    /// How long a call may block its worker's loop after it was signalled to stop: 1 second by
    /// default. Once the loop has stood still for longer than that, the worker is killed, by SIGTERM and
    /// 50 ms later by SIGKILL, and its other calls are lost.
    pub fn kill_after(mut self, grace: Duration) -> Self {
        self.overdue.kill_after = grace;
        self
    }

    /// How long a call may go on after it was signalled to stop, while its worker's loop runs: 10
    /// seconds by default. Then the worker is replaced, and killed once it has no other calls.
    pub fn retire_after(mut self, grace: Duration) -> Self {
        self.overdue.retire_after = grace;
        self
    }

    /// Replaces a worker that takes more memory than this, in bytes of resident memory as `ps` and
    /// `top` show it; unlimited by default. DSPy's share of it is some 70 MiB.
    ///
    /// The memory is read every 20 ms, once the worker has had a call. Another worker is
    /// started and takes the next calls; the old one ends after its last call. So this is no bound:
    /// that is [`memory_limit`](Self::memory_limit).
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.recycle.max_memory = Some(bytes);
        self
    }

    /// Replaces a worker, in the same way, once it was given as many calls; unlimited by default, at
    /// least 1. It gets some more until the other worker is ready.
    pub fn max_calls(mut self, calls: u64) -> Self {
        self.recycle.max_calls = Some(calls.max(1));
        self
    }

    /// Replaces a worker, in the same way, once it has served as long; unlimited by default.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.recycle.max_age = Some(age);
        self
    }

    /// The most private memory that a worker can get, in bytes; unlimited by default.
    ///
    /// The system refuses more (`RLIMIT_DATA`, which the worker's own child processes inherit):
    /// Python raises `MemoryError`, which fails the call, and code that does not expect it may crash
    /// the worker. All memory that is mapped and writable counts, used or not: some 60 MiB before
    /// the first program is loaded, and 8 MiB for the stack of each thread. A worker that takes more
    /// than the limit by itself does not start.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.spawn.memory_limit = Some(bytes);
        self
    }

    /// Charges the LM calls of all programs of the host to `budget`, those that belong to no call among
    /// them: none by default. With a window it limits what the host spends in a day, for example.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_dspy::{Budget, BudgetLimits, Host, Usd};
    ///
    /// let day = Duration::from_secs(24 * 3600);
    /// let limits = BudgetLimits::new().with_usd(Usd::new(50.0)).with_window(day);
    /// let host = Host::workers(4).budget(&Budget::new(limits.with_name("the host")));
    /// # let _ = host;
    /// ```
    pub fn budget(mut self, budget: &Budget) -> Self {
        self.budget = Some(budget.clone());
        self
    }

    /// Whether workers are forked from a process that has imported DSPy: yes by default.
    ///
    /// A worker then takes another's place within some 10 ms, and all workers share the memory of
    /// DSPy's modules. That process, the *zygote*, has one thread, runs no program and makes no
    /// connection. When it ends, the workers do: their calls answer [`Lost`](crate::Lost), and all
    /// start anew.
    ///
    /// Without it each worker is started by itself, and imports DSPy by itself, which takes about
    /// a second of a core. The pool falls back to that, with a warning, if the import of DSPy, or of
    /// a package beside it, has left a thread running: a process with threads cannot be forked
    /// safely.
    pub fn fork(mut self, yes: bool) -> Self {
        self.fork = yes;
        self
    }
}
