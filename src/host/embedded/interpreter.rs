//! The thread of the interpreter: set-up, the run of its loop, the end.

use std::{path::Path, sync::Arc};

use pyo3::prelude::*;
#[cfg(feature = "pyo3-async-runtimes")]
use pyo3_async_runtimes::TaskLocals;
use tokio::sync::oneshot;

use super::{
    dispatch::Dispatch, ffi, import, port::Port, port_state::PortState, settings::Embedded,
};
#[cfg(feature = "py-spy")]
use crate::host::gil_holder::GilWatch;
#[cfg(feature = "pyo3-async-runtimes")]
use crate::host::task_locals::LOCALS;
use crate::host::{
    core::{fault::Fault, log},
    start_error::StartError,
};

/// Starts the interpreter and runs its loop, on Python's thread.
pub(super) fn run(
    settings: &Embedded,
    python: &Path,
    state: Arc<PortState>,
    ready: oneshot::Sender<Result<(), StartError>>,
) {
    if let Err(reason) = ffi::initialize(python) {
        let _ = ready.send(Err(StartError::interpreter(reason)));
        return;
    }
    Python::attach(|py| {
        let python_loop = match PythonLoop::set_up(py, settings, state) {
            Ok(python_loop) => python_loop,
            Err(error) => {
                let fault = Fault::of(py, &error);
                let _ = ready.send(Err(StartError::python(fault)));
                return;
            }
        };
        if ready.send(Ok(())).is_err() {
            // The next start returns this host.
            tracing::debug!(target: "tower_dspy", "the host's first caller went away");
        }
        if let Err(error) = python_loop.run() {
            log::python_failed(&Fault::of(py, &error));
        }
    });
}

/// The asyncio loop, set up.
struct PythonLoop<'py> {
    watchdog: Option<Bound<'py, PyAny>>,
    event_loop: Bound<'py, PyAny>,
    is_stopped: Bound<'py, PyAny>,
    state: Arc<PortState>,
}

impl<'py> PythonLoop<'py> {
    fn set_up(py: Python<'py>, settings: &Embedded, state: Arc<PortState>) -> PyResult<Self> {
        let get = |module: &str, name: &str| py.import(module)?.getattr(name);
        import::install(py)?;
        let startup = py.import("tower_dspy.startup")?;
        startup.call_method0("before_import")?;
        let signals = py.import("tower_dspy.patches.signals")?;
        signals.call_method0("install")?;
        // As strings: importlib looks into no `pathlib.Path`.
        let python_path: Vec<_> = settings.python_path.iter().map(|p| p.as_os_str()).collect();
        let working_dir = std::env::current_dir().ok();
        let working_dir = working_dir.as_deref().map(Path::as_os_str);
        startup.call_method1("extend_path", (python_path, working_dir))?;
        let port = Bound::new(py, Port(state.clone()))?;
        let weaker = startup.call_method1(
            "import_dspy",
            (port.getattr("log")?, port.getattr("is_debugged")?),
        )?;
        for weaker in weaker.extract::<Vec<String>>()? {
            tracing::warn!(target: "tower_dspy", "{weaker}");
        }
        let (grace, max_abandoned) = (settings.thread_grace.as_secs_f64(), settings.max_abandoned);
        let event_loop = get("tower_dspy.loop", "make")?.call1((&port, (grace, max_abandoned)))?;
        let warm = get("tower_dspy.warmup", "warm")?.call0()?;
        event_loop.call_method1("run_until_complete", (warm,))?;
        get("tower_dspy.exchange", "connect")?.call1((&port,))?;
        startup.call_method0("calm_gc")?;
        let pool = get("tower_dspy.pool", "Pool")?.call1((
            &port,
            &event_loop,
            "tower-dspy-sync",
            settings.sync_threads,
            grace,
            max_abandoned,
        ))?;
        let load_limit = settings.load_limit.as_secs_f64();
        let runner = get("tower_dspy.runner", "Runner")?;
        let runner = runner.call1((&port, &event_loop, pool, load_limit))?;
        signals.call_method1("name_programs", (runner.getattr("current_program")?,))?;
        let start_limit = get("tower_dspy.start_limit", "StartLimit")?.call0()?;
        let watchdog = || {
            let arguments = (&port, &runner, &event_loop, grace);
            get("tower_dspy.watchdog", "Watchdog")?.call1(arguments)
        };
        let watchdog = settings.watchdog.then(watchdog).transpose()?;
        let is_stopped = runner.getattr("is_stopped")?;
        let dispatch = Dispatch {
            port: state.clone(),
            runner: runner.unbind(),
            start_limit: start_limit.unbind(),
            event_loop: event_loop.clone().unbind(),
        };
        #[cfg(feature = "pyo3-async-runtimes")]
        LOCALS.get_or_init(|| TaskLocals::new(event_loop.clone()));
        let fd = state.core.queue.wake_up().raw_fd();
        event_loop.call_method1("add_reader", (fd, Bound::new(py, dispatch)?))?;
        Ok(Self {
            watchdog,
            event_loop,
            is_stopped,
            state,
        })
    }

    fn run(self) -> PyResult<()> {
        let asyncio = self.event_loop.py().import("tower_dspy.loop")?;
        #[cfg(feature = "py-spy")]
        let gil_watch = self.watchdog.is_some().then(|| {
            let monitor = self.state.monitor.clone();
            GilWatch::new(std::process::id(), monitor)
        });
        let ran = asyncio.call_method1("run", (&self.event_loop, self.is_stopped));
        self.state.core.queue.close("it was stopped");
        #[cfg(feature = "py-spy")]
        drop(gil_watch);
        if let Some(watchdog) = &self.watchdog {
            watchdog.call_method0("stop")?;
        }
        asyncio.call_method1("close", (&self.event_loop,))?;
        ran.map(drop)
    }
}
