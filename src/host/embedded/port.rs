//! The embedded port: what Python's runner calls.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use pyo3::{exceptions::PyValueError, prelude::*, types::PyDict};

use super::{
    convert,
    listeners::Listeners,
    opener::{self, Exchange, Opener},
    raised,
    text::Text,
};
use crate::host::core::{
    call_state::Outcome,
    count::GaugeGuard,
    exchange::Caller,
    fault::Fault,
    host_core::HostCore,
    http::ProgramRequest,
    lm_candidates::{self, LmCandidates},
    log,
    loop_monitor::{BlockReport, LoopMonitor},
    queue::CommandQueue,
    registry::Registration,
    running_call::RunningCall,
    tool,
};

/// The port's own side, called by the runner on Python's thread.
#[pyclass(frozen)]
pub(super) struct Port {
    core: HostCore,
    monitor: Arc<LoopMonitor>,
    listeners: Arc<Listeners>,
    /// Of the LMs that the program that is being loaded brought along; one is loaded at a time.
    adopted: Arc<Mutex<Vec<Registration>>>,
    abandoned_threads: Mutex<Vec<GaugeGuard>>,
    stopped: AtomicBool,
}

impl Port {
    pub(super) fn new(core: HostCore, monitor: Arc<LoopMonitor>) -> Self {
        Self {
            core,
            monitor,
            listeners: Arc::default(),
            adopted: Arc::default(),
            abandoned_threads: Mutex::default(),
            stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn adopted(&self) -> Arc<Mutex<Vec<Registration>>> {
        self.adopted.clone()
    }

    pub(super) fn listeners(&self) -> Arc<Listeners> {
        self.listeners.clone()
    }

    fn abandoned_threads(&self) -> MutexGuard<'_, Vec<GaugeGuard>> {
        let guards = self.abandoned_threads.lock();
        guards.unwrap_or_else(PoisonError::into_inner)
    }

    fn opener(&self, call: Option<&Bound<'_, Pending>>, deliver: Option<Py<PyAny>>) -> Opener<'_> {
        Opener {
            queue: &self.core.queue,
            listeners: &self.listeners,
            call: call.map(|call| call.get().call.state.clone()),
            deliver,
        }
    }
}

#[pymethods]
impl Port {
    fn beat(&self) {
        self.monitor.beat();
    }

    /// Python's watchdog thread gets the GIL.
    fn pulse(&self) {
        self.monitor.pulse();
    }

    /// What the loop is at, which is late; see watchdog.py.
    fn blocked(&self, frames: Vec<Text>, program: Option<Text>, call: Option<&Bound<'_, Pending>>) {
        let call_id = call.and_then(|call| call.get().call.context.call_id);
        self.monitor.report(&BlockReport {
            frames: frames.into_iter().map(|Text(frame)| frame).collect(),
            program: program.map(|Text(program)| program),
            call_id: call_id.map(crate::call::CallId::get),
            gil_held: false,
        });
    }

    /// A thread was abandoned; see pool.py.
    fn gave_up(&self, replaced: bool) {
        let guard = self.core.counters.abandoned_threads.abandon(replaced);
        self.abandoned_threads().push(guard);
    }

    fn came_back(&self) {
        drop(self.abandoned_threads().pop());
    }

    fn stopped(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Sends an HTTP request; see exchange.py.
    fn open(
        &self,
        route: Option<(Vec<i64>, String)>,
        timeout: Option<f64>,
        call: Option<&Bound<'_, Pending>>,
        request: &Bound<'_, PyAny>,
        deliver: Option<Py<PyAny>>,
    ) -> PyResult<Option<Exchange>> {
        self.monitor.progress();
        let request = ProgramRequest {
            lms: route.map(|(lms, model)| LmCandidates(lms, model)),
            timeout: timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            request: opener::read_request(request)?,
        };
        let caller = Caller::of(call.map(|call| &call.get().call));
        let find = |lm| {
            usize::try_from(lm)
                .ok()
                .and_then(|lm| self.core.lms.get(lm))
        };
        self.opener(call, deliver)
            .open(|exchange| self.core.http.send(exchange, request, find, caller))
    }

    /// Begins the call of a tool; see host_tools.py.
    fn call_tool(
        &self,
        tool_id: usize,
        call: Option<&Bound<'_, Pending>>,
        arguments: &Bound<'_, PyDict>,
        deliver: Option<Py<PyAny>>,
    ) -> PyResult<Option<Exchange>> {
        let tool = self.core.tools.get(tool_id);
        let tool = tool.ok_or_else(|| PyValueError::new_err("the host knows no such tool"))?;
        let caller = Caller::of(call.map(|call| &call.get().call));
        let arguments = convert::fields(arguments)?;
        self.opener(call, deliver)
            .open(|exchange| tool::call(exchange, tool, arguments, caller))
    }

    /// Takes an LM over that a program brought along.
    fn adopt_lm(
        &self,
        model: String,
        base_url: Option<String>,
        key: Option<String>,
    ) -> PyResult<(usize, bool)> {
        let adopted = lm_candidates::adopt(model, base_url, key);
        let (lm, keyed) = adopted.map_err(PyValueError::new_err)?;
        let (id, registration) = self.core.lms.register(lm);
        self.adopted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(registration);
        Ok((id, keyed))
    }

    #[staticmethod]
    fn log(level: u32, logger: Text, message: Text) {
        log::forward(level, &logger.0, &message.0);
    }
}

/// The port's side of one call that has been started.
#[pyclass(frozen)]
pub(super) struct Pending {
    call: RunningCall,
    queue: Arc<CommandQueue>,
    monitor: Arc<LoopMonitor>,
}

impl Pending {
    pub(super) const fn new(
        call: RunningCall,
        queue: Arc<CommandQueue>,
        monitor: Arc<LoopMonitor>,
    ) -> Self {
        Self {
            call,
            queue,
            monitor,
        }
    }

    pub(super) fn finish(&self, outcome: Outcome) {
        self.monitor.progress();
        self.call.finish(outcome);
    }

    fn resolve(&self, outcome: Outcome) {
        self.monitor.progress();
        self.call.resolve(outcome);
    }
}

#[pymethods]
impl Pending {
    fn done(&self, value: &Bound<'_, PyAny>) {
        let value = convert::from_python(value).map_err(|error| Fault::of(value.py(), &error));
        self.resolve(value);
    }

    fn failed(&self, described: &Bound<'_, PyDict>) {
        self.resolve(Err(raised::read_dict(described)));
    }

    fn settled(&self, strays: Option<Vec<Text>>) {
        let strays =
            strays.map(|names| names.into_iter().map(|Text(name)| name).collect::<Vec<_>>());
        self.call.settle(strays.as_deref());
    }

    fn finished(&self, value: &Bound<'_, PyAny>) {
        let value = convert::from_python(value).map_err(|error| Fault::of(value.py(), &error));
        self.finish(value);
    }

    /// Keeps a partial answer; false if the call is over.
    fn partial(&self, fields: &Bound<'_, PyDict>) -> PyResult<bool> {
        Ok(self.call.keep_partial(convert::from_python(fields)?))
    }

    /// The program got an LM's answer by an exchange, with these tokens as DSPy reads them.
    fn stepped(&self, exchange: Option<u64>, counts: Option<(u64, u64, u64)>) {
        self.call.record_answer(exchange, counts);
    }

    /// The program calls an LM that the host does not carry.
    fn bypassed(&self, lm: Text) {
        self.call.record_bypass(&lm.0);
    }

    /// The name of the LM that the caller asked for.
    fn lm(&self) -> Option<&str> {
        self.call.route.lm.as_deref()
    }

    /// Whether the call may call no LM any more.
    fn is_over(&self) -> bool {
        // A loop that this very call blocks does not read that the host stops.
        self.call.state.is_over() || self.queue.closed().is_some()
    }

    /// The call is to stop: Rust closes its LM connections before Python signals it.
    fn cancel(&self) {
        self.call.state.cancel();
    }

    fn abandon(&self) {
        self.call.abandon();
    }
}
