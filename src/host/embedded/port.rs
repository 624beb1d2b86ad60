//! The port of the interpreter in this process: the methods that Python's runner calls.

use std::{collections::BTreeMap, sync::Arc};

use pyo3::{exceptions::PyValueError, prelude::*};

use super::{
    convert,
    exchange::{self, PortExchange},
    port_call::PortCall,
    port_state::PortState,
    text::Text,
};
use crate::{
    host::core::{
        http::{self, ProgramRequest},
        lm_candidates::{self, LmCandidates, LmRoute},
        log,
        loop_monitor::BlockReport,
        reader, tool,
    },
    lm::LmProvider,
};

/// Called on Python's threads.
#[pyclass(frozen)]
pub(super) struct Port(pub(super) Arc<PortState>);

#[pymethods]
impl Port {
    fn beat(&self) {
        self.0.monitor.beat();
    }

    /// Python's watchdog thread has the GIL.
    fn pulse(&self) {
        self.0.monitor.pulse();
    }

    /// The frames of a loop that is late; see watchdog.py.
    fn blocked(
        &self,
        frames: Vec<Text>,
        program: Option<Text>,
        call: Option<&Bound<'_, PortCall>>,
    ) {
        let call = call.map(Bound::get);
        let report = BlockReport {
            frames: frames.into_iter().map(|Text(frame)| frame).collect(),
            program: program.map(|Text(program)| program),
            call_id: call.and_then(PortCall::call_id),
        };
        let late = self.0.monitor.report_of_watchdog(&report);
        if let (Some(late), Some(call)) = (late, call) {
            call.call.record_block(late, &report);
        }
    }

    /// A thread was abandoned; see pool.py.
    fn gave_up(&self, replaced: bool) {
        let guard = self.0.core.counters.abandon_thread(replaced);
        self.0.abandoned_threads().push(guard);
    }

    fn came_back(&self) {
        drop(self.0.abandoned_threads().pop());
    }

    /// Sends an HTTP request; see exchange.py.
    fn open(
        &self,
        route: Option<LmRoute>,
        timeout: Option<f64>,
        call: Option<&Bound<'_, PortCall>>,
        request: &Bound<'_, PyAny>,
        deliver: Option<Py<PyAny>>,
        first_content: Option<f64>,
    ) -> PyResult<Option<PortExchange>> {
        self.0.monitor.progress();
        let request = ProgramRequest {
            lms: route.map(LmCandidates::from),
            timeout: http::time_limit(timeout),
            first_content: http::time_limit(first_content),
            request: exchange::read_request(request)?,
        };
        let find = |lm| self.0.core.lms.get(usize::try_from(lm).ok()?);
        let send = |exchange| http::send(&self.0.core, exchange, request, find);
        PortExchange::open(&self.0, call, deliver, send)
    }

    /// Calls a tool; see host_tools.py.
    fn call_tool(
        &self,
        tool_id: usize,
        call: Option<&Bound<'_, PortCall>>,
        arguments: &Bound<'_, PyAny>,
        trace: BTreeMap<String, String>,
        deliver: Option<Py<PyAny>>,
    ) -> PyResult<Option<PortExchange>> {
        let tool = self.0.core.tools.get(tool_id);
        let tool = tool.ok_or_else(|| PyValueError::new_err("the host knows no such tool"))?;
        let arguments = convert::from_python(arguments)?;
        let call_tool = |exchange| tool::call(exchange, tool, arguments, &trace);
        PortExchange::open(&self.0, call, deliver, call_tool)
    }

    /// Waits for the reader of the call's stream; see call_stream.py.
    fn await_reader(
        &self,
        call: Option<&Bound<'_, PortCall>>,
        deliver: Option<Py<PyAny>>,
    ) -> PyResult<Option<PortExchange>> {
        PortExchange::open(&self.0, call, deliver, reader::wait)
    }

    /// Takes over an LM that a program brought along.
    fn adopt_lm(
        &self,
        model: String,
        base_url: Option<String>,
        key: Option<String>,
    ) -> PyResult<usize> {
        let lm = lm_candidates::adopt(model, base_url, key).map_err(PyValueError::new_err)?;
        let (id, registration) = self.0.core.lms.register(lm);
        self.0.adopted().push(registration);
        Ok(id)
    }

    /// Finds the key and the address of an LM; see lm_address.py.
    fn resolve_lm(
        &self,
        lm: usize,
        url: Option<String>,
        variables: Vec<String>,
        has_credentials: bool,
    ) -> PyResult<bool> {
        let provider = LmProvider {
            url,
            variables,
            has_credentials,
        };
        let lm = self.0.core.lms.get(lm);
        lm_candidates::resolve(lm.as_deref(), &provider).map_err(PyValueError::new_err)
    }

    /// Whether the log has the debug level for what comes from Python.
    #[staticmethod]
    fn is_debugged() -> bool {
        log::is_debugged()
    }

    /// A record of `logging`, made by the code of this call: the host's side of it, or another one that
    /// makes no prediction of a service.
    #[staticmethod]
    fn log(level: u32, logger: Text, message: Text, call: Option<&Bound<'_, PyAny>>) {
        let call = call.and_then(|call| call.cast::<PortCall>().ok());
        let call_id = call.and_then(|call| call.get().call.state.context.call_id);
        log::forward(level, &logger.0, &message.0, call_id);
    }
}
