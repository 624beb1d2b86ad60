//! The embedded port: what Python's runner calls.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
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
    exchange::CallOf,
    fault::Fault,
    http::{self, Outgoing, Route},
    inbox::Inbox,
    log,
    running::Running,
    watchdog::Sight,
};

/// The port's own side, called by the runner on Python's thread.
#[pyclass(frozen)]
pub(super) struct Port {
    inbox: Arc<Inbox>,
    listeners: Arc<Listeners>,
    /// LMs that the program brought along that is being loaded: one at a time is.
    adopted: Arc<Mutex<Vec<usize>>>,
    stopped: AtomicBool,
}

impl Port {
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Self {
            inbox,
            listeners: Arc::default(),
            adopted: Arc::default(),
            stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn adopted(&self) -> Arc<Mutex<Vec<usize>>> {
        self.adopted.clone()
    }

    pub(super) fn listeners(&self) -> Arc<Listeners> {
        self.listeners.clone()
    }

    fn opener(&self, call: Option<&Bound<'_, Pending>>, deliver: Option<Py<PyAny>>) -> Opener<'_> {
        Opener {
            inbox: &self.inbox,
            listeners: &self.listeners,
            call: call.map(|call| call.get().0.state.clone()),
            deliver,
        }
    }
}

#[pymethods]
impl Port {
    fn beat(&self) {
        self.inbox.counters.beat.touch();
    }

    /// Python's watchdog thread gets the GIL.
    fn pulse(&self) {
        self.inbox.watch.pulse.touch();
    }

    /// What the loop is at, which is late; see watchdog.py.
    fn blocked(&self, frames: Vec<Text>, program: Option<Text>, call: Option<&Bound<'_, Pending>>) {
        let call_id = call.and_then(|call| call.get().0.context.call_id);
        self.inbox.saw(&Sight {
            frames: frames.into_iter().map(|Text(frame)| frame).collect(),
            program: program.map(|Text(program)| program),
            call_id: call_id.map(crate::call::CallId::get),
            gil_held: false,
        });
    }

    /// A thread was abandoned; see pool.py.
    fn gave_up(&self, replaced: bool) {
        self.inbox.gave_up(replaced);
    }

    fn came_back(&self) {
        self.inbox.counters.abandoned.down();
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
        self.inbox.counters.crossing.touch();
        let outgoing = Outgoing {
            route: route.map(|(lms, model)| Route(lms, model)),
            timeout: timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            request: opener::read_request(request)?,
        };
        let call_of = CallOf::of(call.map(|call| &call.get().0));
        let find = |lm| {
            usize::try_from(lm)
                .ok()
                .and_then(|lm| self.inbox.lms.get(lm))
        };
        self.opener(call, deliver)
            .open(|opening| opening.http(outgoing, find, call_of))
    }

    /// Begins the call of a tool; see host_tools.py.
    fn call_tool(
        &self,
        tool_id: usize,
        call: Option<&Bound<'_, Pending>>,
        arguments: &Bound<'_, PyDict>,
        deliver: Option<Py<PyAny>>,
    ) -> PyResult<Option<Exchange>> {
        let tool = self.inbox.tools.get(tool_id);
        let tool = tool.ok_or_else(|| PyValueError::new_err("the host knows no such tool"))?;
        let asked = CallOf::of(call.map(|call| &call.get().0));
        let asked = asked.into_tool(convert::fields(arguments)?);
        self.opener(call, deliver)
            .open(|opening| opening.tool_call(tool, asked))
    }

    /// Takes an LM over that a program brought along.
    fn adopt_lm(
        &self,
        model: String,
        base_url: Option<String>,
        key: Option<String>,
    ) -> PyResult<(usize, bool)> {
        let adopted = http::adopt(model, base_url, key);
        let (lm, keyed) = adopted.map_err(PyValueError::new_err)?;
        let id = self.inbox.lms.add(lm);
        self.adopted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(id);
        Ok((id, keyed))
    }

    #[staticmethod]
    fn log(level: u32, logger: Text, message: Text) {
        log::forward(level, &logger.0, &message.0);
    }
}

/// The port's side of one call that has been started.
#[pyclass(frozen)]
pub(super) struct Pending(pub(super) Running);

#[pymethods]
impl Pending {
    fn done(&self, value: &Bound<'_, PyAny>) {
        let value = convert::from_python(value).map_err(|error| Fault::of(value.py(), &error));
        self.0.resolve(value);
    }

    fn failed(&self, described: &Bound<'_, PyDict>) {
        self.0.resolve(Err(raised::read_dict(described)));
    }

    fn settled(&self, strays: Option<Vec<Text>>) {
        let strays =
            strays.map(|names| names.into_iter().map(|Text(name)| name).collect::<Vec<_>>());
        self.0.settled(strays.as_deref());
    }

    fn finished(&self, value: &Bound<'_, PyAny>) {
        let value = convert::from_python(value).map_err(|error| Fault::of(value.py(), &error));
        self.0.finished(value);
    }

    /// Keeps a partial answer; false if nobody waits for one any more.
    fn partial(&self, fields: &Bound<'_, PyDict>) -> PyResult<bool> {
        Ok(self.0.partial(convert::from_python(fields)?))
    }

    /// The program got an LM's answer by an exchange, with these tokens as DSPy reads them.
    fn stepped(&self, exchange: Option<u64>, counts: Option<(u64, u64, u64)>) {
        self.0.stepped(exchange, counts);
    }

    /// The program calls an LM past the host.
    fn bypassed(&self, lm: Text) {
        self.0.bypassed(&lm.0);
    }

    /// The name of the LM that the caller asked for.
    fn lm(&self) -> Option<&str> {
        self.0.route.lm.as_deref()
    }

    /// Whether the call may call no LM any more.
    fn is_over(&self) -> bool {
        // The loop may be held up by this very call, and not hear that the host stops.
        self.0.state.is_over() || self.0.inbox.closed().is_some()
    }

    /// The call is to stop: Rust closes its LM connections before Python hears of it.
    fn cancel(&self) {
        self.0.state.cancel(&self.0.inbox.counters);
    }

    fn abandon(&self) {
        self.0.abandon();
    }
}
