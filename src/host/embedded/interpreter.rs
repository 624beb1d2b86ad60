//! The thread of the interpreter: set-up, the run of its loop, the end.

use std::{path::Path, sync::Arc};

use pyo3::{prelude::*, types::IntoPyDict};
use tokio::sync::oneshot;

#[cfg(feature = "pyo3-async-runtimes")]
use super::task_locals;
use super::{dispatch::Dispatch, ffi, import, port::Port, settings::Embedded};
#[cfg(feature = "py-spy")]
use crate::host::gil_holder::GilWatch;
use crate::host::{
    core::{
        fault::Fault, host_core::HostCore, log, loop_monitor::LoopMonitor, queue::CommandQueue,
    },
    start_error::StartError,
};

/// Starts the interpreter and runs its loop, on Python's thread.
pub(super) fn run(
    settings: &Embedded,
    python: &Path,
    (core, monitor): (HostCore, Arc<LoopMonitor>),
    ready: oneshot::Sender<Result<(), StartError>>,
) {
    if let Err(reason) = ffi::initialize(python) {
        let _ = ready.send(Err(StartError::Interpreter { reason }));
        return;
    }
    Python::attach(|py| {
        let python_loop = match set_up(py, settings, core.clone(), monitor) {
            Ok(python_loop) => python_loop,
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
            // The next start returns this host.
            tracing::debug!(target: "tower_dspy", "the host's first caller went away");
        }
        if let Err(error) = python_loop.run(&core.queue) {
            log::python_failed(&Fault::of(py, &error));
        }
    });
}

/// The asyncio loop, set up.
struct PythonLoop<'py> {
    watchdog: Option<Bound<'py, PyAny>>,
    #[cfg(feature = "py-spy")]
    gil_watch: Option<GilWatch>,
    module: Bound<'py, PyModule>,
    event_loop: Bound<'py, PyAny>,
    port: Bound<'py, Port>,
}

fn set_up<'py>(
    py: Python<'py>,
    settings: &Embedded,
    core: HostCore,
    monitor: Arc<LoopMonitor>,
) -> PyResult<PythonLoop<'py>> {
    import::install(py)?;
    let startup = py.import("tower_dspy.startup")?;
    startup.call_method0("before_import")?;
    let signals = py.import("tower_dspy.patches.signals")?;
    signals.call_method0("install")?;
    let path = py.import("sys")?.getattr("path")?;
    for folder in settings.python_path.iter().rev() {
        // As a string: importlib looks into no `pathlib.Path`.
        path.call_method1("insert", (0, folder.as_os_str()))?;
    }
    let fd = core.queue.wake_up().raw_fd();
    let port = Bound::new(py, Port::new(core.clone(), monitor.clone()))?;
    let weaker = startup.call_method1("import_dspy", (port.getattr("log")?,))?;
    for weaker in weaker.extract::<Vec<String>>()? {
        tracing::warn!(target: "tower_dspy", "{weaker}");
    }
    let module = py.import("tower_dspy.loop")?;
    let threads = (settings.thread_grace.as_secs_f64(), settings.max_abandoned);
    let event_loop = module.call_method1("make", (&port, threads))?;
    event_loop.call_method1(
        "run_until_complete",
        (py.import("tower_dspy.warmup")?.call_method0("warm")?,),
    )?;
    py.import("tower_dspy.exchange")?
        .call_method1("connect", (&port,))?;
    startup.call_method0("calm_gc")?;
    let runner = py.import("tower_dspy.runner")?.getattr("Runner")?;
    let pool = py.import("tower_dspy.pool")?.getattr("Pool")?;
    let pool = pool.call1((
        &port,
        &event_loop,
        "tower-dspy-sync",
        settings.sync_threads,
        threads.0,
        threads.1,
    ))?;
    let runner = runner.call1((&port, &event_loop, pool))?;
    signals.call_method1("name_programs", (runner.getattr("current_program")?,))?;
    let pacer = py
        .import("tower_dspy.start_limit")?
        .getattr("StartLimit")?
        .call0()?;
    let watchdog = match settings.watchdog {
        true => Some(watch(&port, &runner, &event_loop, settings)?),
        false => None,
    };
    #[cfg(feature = "py-spy")]
    let gil_watch = settings
        .watchdog
        .then(|| GilWatch::new(std::process::id(), monitor.clone()));
    let dispatch = Dispatch::new(core.queue, monitor, port.get(), &runner, pacer, &event_loop)?;
    #[cfg(feature = "pyo3-async-runtimes")]
    task_locals::set(&event_loop);
    event_loop.call_method1("add_reader", (fd, Bound::new(py, dispatch)?))?;
    Ok(PythonLoop {
        watchdog,
        #[cfg(feature = "py-spy")]
        gil_watch,
        module,
        event_loop,
        port,
    })
}

/// Starts Python's watchdog.
fn watch<'py>(
    port: &Bound<'py, Port>,
    runner: &Bound<'py, PyAny>,
    event_loop: &Bound<'py, PyAny>,
    settings: &Embedded,
) -> PyResult<Bound<'py, PyAny>> {
    let py = port.py();
    let grace = [("grace", settings.thread_grace.as_secs_f64())].into_py_dict(py)?;
    let dog = py.import("tower_dspy.watchdog")?.getattr("Watchdog")?;
    dog.call((port, runner, event_loop), Some(&grace))
}

impl PythonLoop<'_> {
    fn run(self, queue: &CommandQueue) -> PyResult<()> {
        let stopped = self.port.getattr("is_stopped")?;
        let ran = self.module.call_method1("run", (&self.event_loop, stopped));
        queue.close("it was stopped");
        #[cfg(feature = "py-spy")]
        drop(self.gil_watch);
        if let Some(dog) = &self.watchdog {
            dog.call_method0("stop")?;
        }
        self.module.call_method1("close", (&self.event_loop,))?;
        ran.map(drop)
    }
}
