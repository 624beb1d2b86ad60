//! Starting the interpreter inside this process, and the thread that owns it.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use pyo3::prelude::*;
use tokio::sync::{Mutex, oneshot, watch};

use super::{
    Fault, Host,
    env::{EnvError, LinkedPython, PythonEnv},
    ffi,
    inbox::Inbox,
    linger::Linger,
    log,
    port::{Drain, Port},
    room, runtime, watchdog,
};

/// The one host of this process, and what it was started with.
static STARTED: Mutex<Option<(Embedded, Host)>> = Mutex::const_new(None);

/// Threads for sync programs, unless [`Embedded::sync_threads`] says otherwise.
const SYNC_THREADS: usize = 64;
/// Abandoned threads at once, unless [`Embedded::max_abandoned`] says otherwise.
const MAX_ABANDONED: usize = 16;
/// Until a thread is given up, unless [`Embedded::thread_grace`] says otherwise.
const THREAD_GRACE: Duration = Duration::from_secs(5);

/// What Python's timers can hold.
const LONGEST_GRACE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A host to be, from [`Host::embedded`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is started before `start`"]
pub struct Embedded {
    venv: Option<PathBuf>,
    python_path: Vec<PathBuf>,
    uvloop: bool,
    sync_threads: usize,
    max_abandoned: usize,
    thread_grace: Duration,
    watchdog: bool,
}

impl Embedded {
    pub(super) fn new() -> Self {
        Self {
            venv: None,
            python_path: Vec::new(),
            uvloop: false,
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

    /// Runs the loop on `uvloop`, which has to be installed in the venv.
    pub fn uvloop(mut self, yes: bool) -> Self {
        self.uvloop = yes;
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
    /// over already. It uses the one timer of Python's `faulthandler`, so turn it off for a
    /// program that needs that timer for itself.
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

/// Why there is no host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No venv fits.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// The interpreter did not start.
    #[error("the Python interpreter did not start: {reason}")]
    Interpreter {
        /// What CPython, or the system, says.
        reason: String,
    },
    /// DSPy, or Python's side of this crate, did not start.
    #[error("DSPy did not start: {python_type}: {message}\n{traceback}")]
    Python {
        /// The exception's class.
        python_type: String,
        /// Its message.
        message: String,
        /// Its traceback.
        traceback: String,
    },
    /// The process has a host that was started with other settings.
    #[error(
        "this process already runs an embedded host that was started with other settings; \
         share that host, or start both with the same settings"
    )]
    Another,
    /// The process had a host.
    #[error(
        "this process had its embedded host ({reason}); an interpreter cannot be started twice, \
         so keep the host running as long as it is needed"
    )]
    Over {
        /// What became of it.
        reason: String,
    },
}

async fn launch(embedded: Embedded, python: PathBuf) -> Result<Host, StartError> {
    let system = |error: std::io::Error| StartError::Interpreter {
        reason: error.to_string(),
    };
    let inbox = Inbox::new(embedded.max_abandoned).map_err(system)?;
    let inbox = Arc::new(inbox);
    let (ready, started) = oneshot::channel();
    let (ending, ended) = watch::channel(false);
    let shared = inbox.clone();
    let thread = thread::Builder::new()
        .name("tower-dspy-python".into())
        .spawn(move || {
            let _guard = Ending {
                inbox: inbox.clone(),
                ending,
            };
            own_interpreter(&embedded, &python, inbox, ready);
        })
        .map_err(system)?;
    let host = Host::new(shared, ended, thread);
    match started.await {
        Ok(Ok(())) => Ok(host),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(StartError::Interpreter {
            reason: "its thread ended".into(),
        }),
    }
}

/// Tells everyone that Python's thread is gone, however it went.
struct Ending {
    inbox: Arc<Inbox>,
    ending: watch::Sender<bool>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.inbox.close("its thread ended");
        self.ending.send_replace(true);
    }
}

/// The life of Python's thread.
fn own_interpreter(
    embedded: &Embedded,
    python: &Path,
    inbox: Arc<Inbox>,
    ready: oneshot::Sender<Result<(), StartError>>,
) {
    if let Err(reason) = ffi::initialize(python) {
        let _ = ready.send(Err(StartError::Interpreter { reason }));
        return;
    }
    Python::attach(|py| {
        let lives = match set_up(py, embedded, inbox.clone()) {
            Ok(lives) => lives,
            Err(error) => {
                let fault = Fault::of(py, &error);
                let _ = ready.send(Err(StartError::Python {
                    python_type: fault.python_type,
                    message: fault.message,
                    traceback: fault.traceback,
                }));
                return;
            }
        };
        if ready.send(Ok(())).is_err() {
            // Nobody waited for the start; the host is there for the next who asks.
            tracing::debug!(target: "tower_dspy", "the host's first caller went away");
        }
        if let Err(error) = lives.run(&inbox) {
            log::python_failed(&Fault::of(py, &error));
        }
    });
}

/// What Python's thread runs.
struct Loop<'py> {
    watchdog: Option<(Bound<'py, PyAny>, OwnedFd)>,
    module: Bound<'py, PyModule>,
    event_loop: Bound<'py, PyAny>,
    port: Bound<'py, Port>,
}

fn set_up<'py>(py: Python<'py>, embedded: &Embedded, inbox: Arc<Inbox>) -> PyResult<Loop<'py>> {
    room::install(py)?;
    let startup = py.import("tower_dspy.startup")?;
    startup.call_method0("before_import")?;
    let path = py.import("sys")?.getattr("path")?;
    for folder in embedded.python_path.iter().rev() {
        // As a string: importlib looks into no `pathlib.Path`.
        path.call_method1("insert", (0, folder.as_os_str()))?;
    }
    let fd = inbox.wake_fd();
    let port = Bound::new(py, Port::new(inbox.clone()))?;
    let weaker = startup.call_method1("import_dspy", (port.getattr("log")?,))?;
    for weaker in weaker.extract::<Vec<String>>()? {
        tracing::warn!(target: "tower_dspy", "{weaker}");
    }
    let module = py.import("tower_dspy.loop")?;
    let linger = Bound::new(py, Linger::new(inbox.clone()))?;
    let threads = (embedded.thread_grace.as_secs_f64(), embedded.max_abandoned);
    let event_loop = module.call_method1("make", (embedded.uvloop, linger, &port, threads))?;
    event_loop.call_method1("run_until_complete", (startup.call_method0("warm")?,))?;
    startup.call_method0("calm_gc")?;
    let runner = py.import("tower_dspy.runner")?.getattr("Runner")?;
    let pool = py.import("tower_dspy.pool")?.getattr("Pool")?;
    let pool = pool.call1((
        &port,
        &event_loop,
        "tower-dspy-sync",
        embedded.sync_threads,
        threads.0,
        threads.1,
    ))?;
    let runner = runner.call1((&port, &event_loop, pool))?;
    let pacer = py.import("tower_dspy.pacing")?.getattr("Pacer")?.call0()?;
    let watchdog = match embedded.watchdog {
        true => Some(watch(&port, &runner, &event_loop, &inbox, threads.0)?),
        false => None,
    };
    let drain = Drain::new(inbox, port.get(), &runner, pacer, &event_loop)?;
    event_loop.call_method1("add_reader", (fd, Bound::new(py, drain)?))?;
    Ok(Loop {
        watchdog,
        module,
        event_loop,
        port,
    })
}

/// Starts Python's watchdog, and ours for what C code keeps it from seeing.
fn watch<'py>(
    port: &Bound<'py, Port>,
    runner: &Bound<'py, PyAny>,
    event_loop: &Bound<'py, PyAny>,
    inbox: &Arc<Inbox>,
    grace: f64,
) -> PyResult<(Bound<'py, PyAny>, OwnedFd)> {
    let (read, write) = watchdog::pipe()?;
    watchdog::read_dumps(inbox.clone(), read)?;
    let module = port.py().import("tower_dspy.watchdog")?;
    let dog = module.getattr("Watchdog")?;
    let dog = dog.call1((port, runner, event_loop, write.as_raw_fd(), grace))?;
    Ok((dog, write))
}

impl Loop<'_> {
    fn run(&self, inbox: &Inbox) -> PyResult<()> {
        let stopped = self.port.getattr("is_stopped")?;
        let ran = self.module.call_method1("run", (&self.event_loop, stopped));
        inbox.close("it was stopped");
        if let Some((dog, _)) = &self.watchdog {
            dog.call_method0("stop")?;
        }
        self.module.call_method1("close", (&self.event_loop,))?;
        ran.map(drop)
    }
}
