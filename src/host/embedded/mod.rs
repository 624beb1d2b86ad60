//! A host inside this process: what it is started with, and its start.

mod convert;
mod drain;
mod ffi;
mod install;
mod interpreter;
mod listeners;
mod opener;
mod port;
mod raised;
mod task_locals;
mod text;

pub use task_locals::NoLoop;

use std::{path::PathBuf, sync::Arc, thread, time::Duration};

use rustix::process::{Resource, getrlimit};
use tokio::sync::{Mutex, oneshot, watch};

use crate::host::{
    Host,
    core::{host_core::HostCore, loop_monitor::LoopMonitor, queue::CommandQueue, runtime},
    env::{LinkedPython, PythonEnv},
    handle::Backend,
    start_error::StartError,
};

/// The one host of this process, and what it was started with.
static STARTED: Mutex<Option<(Embedded, Host)>> = Mutex::const_new(None);

/// Threads for sync programs, unless [`Embedded::sync_threads`] says otherwise.
const SYNC_THREADS: usize = 64;
/// Abandoned threads at once, unless [`Embedded::max_abandoned`] says otherwise.
const MAX_ABANDONED: usize = 16;
/// Until a thread is given up, unless [`Embedded::thread_grace`] says otherwise.
const THREAD_GRACE: Duration = Duration::from_secs(5);

/// What Linux gives a main thread, unless it is told otherwise.
const LEAST_STACK: usize = 8 << 20;

/// What Python's timers can hold.
const LONGEST_GRACE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A host to be, from [`Host::embedded`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is started before `start`"]
pub struct Embedded {
    venv: Option<PathBuf>,
    pub(super) python_path: Vec<PathBuf>,
    pub(super) sync_threads: usize,
    pub(super) max_abandoned: usize,
    pub(super) thread_grace: Duration,
    pub(super) watchdog: bool,
}

impl Embedded {
    pub(super) fn new() -> Self {
        Self {
            venv: None,
            python_path: Vec::new(),
            sync_threads: SYNC_THREADS,
            max_abandoned: MAX_ABANDONED,
            thread_grace: THREAD_GRACE,
            watchdog: true,
        }
    }

    /// The venv that holds DSPy.
    ///
    /// Without it, the first of these is taken: `$VIRTUAL_ENV`, a `.venv` in the working directory
    /// or above it, the venv of `$PYO3_PYTHON`, the venv this crate was built with.
    pub fn venv(mut self, path: impl Into<PathBuf>) -> Self {
        self.venv = Some(path.into());
        self
    }

    /// Looks for programs in this folder too, before all others; may be given more than once.
    pub fn python_path(mut self, folder: impl Into<PathBuf>) -> Self {
        self.python_path.push(folder.into());
        self
    }

    /// How many threads the sync programs of the host share: 64 unless said otherwise, at least 1.
    /// They are made as they are needed; a call beyond them waits for one, in flight.
    pub fn sync_threads(mut self, threads: usize) -> Self {
        self.sync_threads = threads.max(1);
        self
    }

    /// How long a thread may take to end its work once that was told to stop, before it is given
    /// up: 5 seconds unless said otherwise, a year at most.
    ///
    /// The same is how long a call that blocks the loop, and was told to stop, may clean up there
    /// before it is told again.
    ///
    /// A thread is told again then, and a moment later it is *abandoned*: another thread takes its
    /// place, and its call stays in flight, with its permit, until it ends by itself. Python has
    /// no way to end one. This bounds no caller's wait: that is what a layer's limit and its
    /// grace are for.
    pub fn thread_grace(mut self, grace: Duration) -> Self {
        self.thread_grace = grace.min(LONGEST_GRACE);
        self
    }

    /// How many abandoned threads there may be at once, of sync programs, and as many of what
    /// async programs hand to `asyncio.to_thread`: 16 unless said otherwise.
    ///
    /// With that many at work the host's health is [`Health::Exhausted`](super::Health::Exhausted)
    /// and calls of sync programs answer [`Overloaded`](crate::Overloaded), until one of the
    /// threads ends. A host that stays so has to be started anew, with its process.
    pub fn max_abandoned(mut self, threads: usize) -> Self {
        self.max_abandoned = threads;
        self
    }

    /// Whether a thread looks after the loop: yes, unless said otherwise.
    ///
    /// It names the frame that blocks the loop, in [`Health`](super::Health) and in a warning with
    /// the program and the call, and it ends a call that blocks the loop in Python code and is
    /// over already.
    pub fn watchdog(mut self, yes: bool) -> Self {
        self.watchdog = yes;
        self
    }

    /// Starts the interpreter, imports DSPy and makes one prediction on a canned answer, so that
    /// the host that is returned is warm. Takes about a second.
    ///
    /// A second start in a process returns the first host, if it asks for the same.
    ///
    /// # Errors
    /// If no venv fits, with the command that mends it; if the interpreter or DSPy does not start;
    /// if this process has already started another host, or stopped its one.
    pub async fn start(self) -> Result<Host, StartError> {
        let failed = |reason: String| StartError::Interpreter { reason };
        // On a runtime of the process's own: a caller that gives up, or whose runtime ends, must
        // not leave an interpreter behind that nobody can reach.
        let starting = runtime::handle().map_err(failed)?.spawn(self.start_once());
        starting
            .await
            .unwrap_or_else(|error| Err(failed(error.to_string())))
    }

    async fn start_once(self) -> Result<Host, StartError> {
        let mut started = STARTED.lock().await;
        if let Some((earlier, host)) = &*started {
            return match host.closed() {
                Some(reason) => Err(StartError::Over {
                    reason: reason.to_owned(),
                }),
                None if *earlier == self => Ok(host.clone()),
                None => Err(StartError::Another),
            };
        }
        let linked = LinkedPython::build_time()?.with_version(&ffi::linked_version());
        let env = PythonEnv::find(self.venv.as_deref(), &linked)?;
        let host = launch(self.clone(), env.python().to_path_buf()).await?;
        *started = Some((self, host.clone()));
        Ok(host)
    }
}

async fn launch(embedded: Embedded, python: PathBuf) -> Result<Host, StartError> {
    let system = |error: std::io::Error| StartError::Interpreter {
        reason: error.to_string(),
    };
    let core = HostCore::new(embedded.max_abandoned).map_err(system)?;
    let monitor = Arc::<LoopMonitor>::default();
    let (ready, started) = oneshot::channel();
    let (ending, ended) = watch::channel(false);
    let (shared, watched) = (core.clone(), monitor.clone());
    let thread = thread::Builder::new()
        .name("tower-dspy-python".into())
        .stack_size(stack_size())
        .spawn(move || {
            let _guard = Ending {
                queue: core.queue.clone(),
                ending,
            };
            interpreter::own(&embedded, &python, core, monitor, ready);
        })
        .map_err(system)?;
    let host = Host::new(shared, Backend::Embedded(watched), ended, thread);
    match started.await {
        Ok(Ok(())) => Ok(host),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(StartError::Interpreter {
            reason: "its thread ended".into(),
        }),
    }
}

/// The stack that the main thread of `python` would have: programs that raise the recursion limit
/// count on it, and one that overflows ends the process.
fn stack_size() -> usize {
    let limit = getrlimit(Resource::Stack).current;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    limit.unwrap_or(LEAST_STACK).max(LEAST_STACK)
}

/// Tells everyone that Python's thread is gone, however it went.
struct Ending {
    queue: Arc<CommandQueue>,
    ending: watch::Sender<bool>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.queue.close("its thread ended");
        self.ending.send_replace(true);
    }
}
