//! The port of the interpreter in this process: the methods that Python's runner calls.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use pyo3::{exceptions::PyValueError, prelude::*, types::PyDict};

use super::{
    convert,
    event_listeners::EventListeners,
    exchange::{self, PortExchange},
    port_call::PortCall,
    text::Text,
};
use crate::host::core::{
    counters::GaugeGuard,
    host_core::HostCore,
    http::ProgramRequest,
    lm_candidates::{self, LmCandidates},
    log,
    loop_monitor::{BlockReport, LoopMonitor},
    registry::Registration,
    tool,
};

/// Called on Python's threads.
#[pyclass(frozen)]
pub(super) struct Port {
    pub(super) core: HostCore,
    pub(super) monitor: Arc<LoopMonitor>,
    pub(super) listeners: EventListeners,
    /// Of the LMs that the program that is being loaded brought along; one is loaded at a time.
    adopted: Mutex<Vec<Registration>>,
    abandoned_threads: Mutex<Vec<GaugeGuard>>,
    stopped: AtomicBool,
}

impl Port {
    pub(super) fn new(core: HostCore, monitor: Arc<LoopMonitor>) -> Self {
        Self {
            core,
            monitor,
            listeners: EventListeners::default(),
            adopted: Mutex::default(),
            abandoned_threads: Mutex::default(),
            stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn take_adopted(&self) -> Vec<Registration> {
        mem::take(&mut *lock(&self.adopted))
    }
}

fn lock<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

#[pymethods]
impl Port {
    fn beat(&self) {
        self.monitor.beat();
    }

    /// Python's watchdog thread has the GIL.
    fn pulse(&self) {
        self.monitor.pulse();
    }

    /// The frames of a loop that is late; see watchdog.py.
    fn blocked(
        &self,
        frames: Vec<Text>,
        program: Option<Text>,
        call: Option<&Bound<'_, PortCall>>,
    ) {
        let call_id = call.and_then(|call| call.get().call_id());
        self.monitor.report(&BlockReport {
            frames: frames.into_iter().map(|Text(frame)| frame).collect(),
            program: program.map(|Text(program)| program),
            call_id,
        });
    }

    /// A thread was abandoned; see pool.py.
    fn gave_up(&self, replaced: bool) {
        let guard = self.core.counters.abandon_thread(replaced);
        lock(&self.abandoned_threads).push(guard);
    }

    fn came_back(&self) {
        drop(lock(&self.abandoned_threads).pop());
    }

    fn stopped(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Sends an HTTP request; see exchange.py.
    fn open(
        slf: &Bound<'_, Self>,
        route: Option<(Vec<i64>, String)>,
        timeout: Option<f64>,
        call: Option<&Bound<'_, PortCall>>,
        request: &Bound<'_, PyAny>,
        deliver: Option<Py<PyAny>>,
    ) -> PyResult<Option<PortExchange>> {
        let this = slf.get();
        this.monitor.progress();
        let request = ProgramRequest {
            lms: route.map(|(lms, model)| LmCandidates(lms, model)),
            timeout: timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            request: exchange::read_request(request)?,
        };
        let find = |lm| this.core.lms.get(usize::try_from(lm).ok()?);
        let send = |exchange| this.core.http.send(exchange, request, find);
        PortExchange::open(slf, call, deliver, send)
    }

    /// Calls a tool; see host_tools.py.
    fn call_tool(
        slf: &Bound<'_, Self>,
        tool_id: usize,
        call: Option<&Bound<'_, PortCall>>,
        arguments: &Bound<'_, PyDict>,
        deliver: Option<Py<PyAny>>,
    ) -> PyResult<Option<PortExchange>> {
        let tool = slf.get().core.tools.get(tool_id);
        let tool = tool.ok_or_else(|| PyValueError::new_err("the host knows no such tool"))?;
        let arguments = convert::fields(arguments)?;
        let call_tool = |exchange| tool::call(exchange, tool, arguments);
        PortExchange::open(slf, call, deliver, call_tool)
    }

    /// Takes over an LM that a program brought along.
    fn adopt_lm(
        &self,
        model: String,
        base_url: Option<String>,
        key: Option<String>,
    ) -> PyResult<(usize, bool)> {
        let adopted = lm_candidates::adopt(model, base_url, key);
        let (lm, keyed) = adopted.map_err(PyValueError::new_err)?;
        let (id, registration) = self.core.lms.register(lm);
        lock(&self.adopted).push(registration);
        Ok((id, keyed))
    }

    #[staticmethod]
    fn log(level: u32, logger: Text, message: Text) {
        log::forward(level, &logger.0, &message.0);
    }
}
