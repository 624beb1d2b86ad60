//! The embedded port: what Python's runner calls.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use pyo3::{exceptions::PyValueError, prelude::*, types::PyDict};
use tokio::sync::oneshot;
use tracing::Span;

use super::{
    call::{CallState, Outcome},
    convert,
    exchange::{CallOf, Exchange, Opening},
    fault::{self, Fault},
    inbox::{Held, Inbox},
    listeners::Listeners,
    log,
    watchdog::Sight,
};
use crate::{CallContext, Lm, Tenant, request::Route, service::ToolCall};

/// The port's own side, called by the runner on Python's thread.
#[pyclass(frozen)]
pub(super) struct Port {
    inbox: Arc<Inbox>,
    listeners: Arc<Listeners>,
    stopped: AtomicBool,
}

impl Port {
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Self {
            inbox,
            listeners: Arc::default(),
            stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn listeners(&self) -> Arc<Listeners> {
        self.listeners.clone()
    }

    fn opening(
        &self,
        call: Option<&Bound<'_, Pending>>,
        deliver: Option<Py<PyAny>>,
    ) -> Opening<'_> {
        Opening {
            inbox: &self.inbox,
            listeners: &self.listeners,
            call: call.map(|call| call.get().state.clone()),
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
    fn blocked(
        &self,
        frames: Vec<String>,
        program: Option<String>,
        call: Option<&Bound<'_, Pending>>,
    ) {
        let call_id = call.and_then(|call| call.get().context.call_id);
        self.inbox.saw(&Sight {
            frames,
            program,
            call_id: call_id.map(crate::CallId::get),
            gil_held: false,
        });
    }

    /// A thread was abandoned; see pool.py.
    fn gave_up(&self, replaced: bool) {
        let counters = &self.inbox.counters;
        counters.abandoned.up();
        counters.replaced.add(replaced.into());
        tracing::warn!(
            target: "tower_dspy",
            abandoned = counters.abandoned.get(),
            replaced,
            "a thread did not stop within its grace and was given up; its call stays in flight"
        );
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

    /// Begins an LM call; see transport.py.
    fn open(
        &self,
        lm_id: usize,
        call: Option<&Bound<'_, Pending>>,
        request: &Bound<'_, PyAny>,
        deliver: Option<Py<PyAny>>,
    ) -> PyResult<Option<Exchange>> {
        self.inbox.counters.crossing.touch();
        let lm = self.inbox.lm(lm_id);
        let lm = lm.ok_or_else(|| PyValueError::new_err("the host knows no such LM"))?;
        let (context, tenant) = Pending::whose(call);
        let span = call.map_or_else(Span::none, |call| call.get().span.clone());
        let call_of = CallOf {
            context,
            tenant,
            span,
        };
        self.opening(call, deliver).lm_call(lm, request, call_of)
    }

    /// Begins the call of a tool; see toolbox.py.
    fn call_tool(
        &self,
        tool_id: usize,
        call: Option<&Bound<'_, Pending>>,
        arguments: &Bound<'_, PyDict>,
        deliver: Option<Py<PyAny>>,
    ) -> PyResult<Option<Exchange>> {
        let tool = self.inbox.tool(tool_id);
        let tool = tool.ok_or_else(|| PyValueError::new_err("the host knows no such tool"))?;
        let mut asked = ToolCall::new(convert::fields(arguments)?);
        (asked.context, asked.tenant) = Pending::whose(call);
        self.opening(call, deliver).tool_call(tool, asked)
    }

    /// Takes an LM over that a program brought along.
    fn adopt_lm(
        &self,
        model: String,
        base_url: Option<String>,
        key: Option<String>,
    ) -> PyResult<usize> {
        let mut lm = Lm::new(model);
        if let Some(base_url) = base_url {
            lm = lm.base_url(base_url);
        }
        if let Some(key) = key {
            lm = lm.key(key);
        }
        let lm = lm
            .connect()
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(self.inbox.add_lm(lm))
    }

    #[staticmethod]
    fn log(level: u32, logger: &str, message: &str) {
        log::forward(level, logger, message);
    }
}

/// The port's side of one call that has been started.
#[pyclass(frozen)]
pub(super) struct Pending {
    pub(super) context: CallContext,
    pub(super) route: Route,
    pub(super) span: Span,
    pub(super) inbox: Arc<Inbox>,
    pub(super) state: Arc<CallState>,
    pub(super) parts: Mutex<Parts>,
}

/// What is given away, each once.
pub(super) struct Parts {
    pub(super) outcome: Option<oneshot::Sender<Outcome>>,
    pub(super) held: Held,
}

impl Pending {
    /// What an LM or a tool is to know of the call that it is called for, if it is for one.
    fn whose(call: Option<&Bound<'_, Self>>) -> (CallContext, Option<Tenant>) {
        call.map_or((CallContext::new(), None), |call| {
            let this = call.get();
            (this.context.clone(), this.route.tenant.clone())
        })
    }

    fn parts<T>(&self, take: impl FnOnce(&mut Parts) -> T) -> T {
        take(&mut self.parts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn resolve(&self, outcome: Outcome) {
        if let Some(sender) = self.parts(|parts| parts.outcome.take()) {
            self.inbox.counters.crossing.touch();
            self.state.outcome_out(&self.inbox.counters);
            // What the call left behind asks for nobody: a thread that waits there is woken.
            self.state.close_exchanges();
            // Fails if nobody waits any more, and then nothing is owed.
            let _ = sender.send(outcome);
        }
    }

    pub(super) fn settle(&self) {
        // What the call holds goes first: whoever sees it settled finds the permit free.
        drop(self.parts(|parts| parts.held.take()));
        self.state.settle(&self.inbox.counters);
    }
}

#[pymethods]
impl Pending {
    fn done(&self, value: &Bound<'_, PyAny>) {
        let value = convert::from_python(value).map_err(|error| Fault::of(value.py(), &error));
        self.resolve(value);
    }

    fn failed(&self, described: &Bound<'_, PyDict>) {
        self.resolve(Err(fault::read_dict(described)));
    }

    fn settled(&self, strays: Option<Vec<String>>) {
        if let Some(strays) = strays {
            self.inbox.counters.strays.add(strays.len() as u64);
            tracing::warn!(
                target: "tower_dspy",
                call_id = self.context.call_id.map(crate::CallId::get),
                tasks = strays.join(", "),
                "the call left work behind, which was told to stop and has ended"
            );
        }
        self.settle();
    }

    fn finished(&self, value: &Bound<'_, PyAny>) {
        let value = convert::from_python(value).map_err(|error| Fault::of(value.py(), &error));
        // Settled first: the caller that gets the answer finds its permit free.
        self.settle();
        self.resolve(value);
    }

    /// Keeps a partial answer; false if nobody waits for one any more.
    fn partial(&self, fields: &Bound<'_, PyDict>) -> PyResult<bool> {
        let serde_json::Value::Object(fields) = convert::from_python(fields)? else {
            return Ok(false);
        };
        let attempt = self.state.spending().attempt(&self.inbox.lm_counters);
        Ok(attempt.is_some_and(|attempt| attempt.partial(fields)))
    }

    /// The program got an LM's answer.
    fn stepped(&self) {
        if let Some(attempt) = self.state.spending().attempt(&self.inbox.lm_counters) {
            attempt.stepped();
        }
    }

    /// The program calls an LM past the host.
    fn bypassed(&self, lm: &str) {
        let spending = self.state.spending();
        spending.bypassed(lm, &self.inbox.lm_counters);
    }

    /// The name of the LM that the caller asked for.
    fn lm(&self) -> Option<&str> {
        self.route.lm.as_deref()
    }

    /// Whether the call may call no LM any more.
    fn is_over(&self) -> bool {
        // The loop may be held up by this very call, and not hear that the host stops.
        self.state.is_over() || self.inbox.closed().is_some()
    }

    /// The call is to stop: Rust closes its LM connections before Python hears of it.
    fn cancel(&self) {
        self.state.cancel(&self.inbox.counters);
    }

    /// The loop ends: the caller learns that the host is gone, and the work stays counted.
    fn abandon(&self) {
        self.state.close_exchanges();
        drop(self.parts(|parts| (parts.outcome.take(), parts.held.take())));
        self.state.outcome_out(&self.inbox.counters);
    }
}
