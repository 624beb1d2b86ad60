//! Exchanges of the interpreter in this process.
//!
//! Events for code on the loop go to a callback, on the loop's thread. Code on another thread waits
//! for its events without the GIL.

use std::sync::{Arc, Mutex, PoisonError, mpsc};

use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyBytes, PyTuple},
};

use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::{convert, port_call::PortCall, port_state::PortState};
use crate::host::core::{
    event::Event,
    exchange::{EventSink, NewExchange},
    flow::ExchangeFlow,
    http,
};
use crate::lm::LmRequest;

impl Event {
    pub(super) fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
        match self {
            Self::Full(head, body) => {
                let body = PyBytes::new(py, &body);
                ("full", head.status, head.headers, body).into_pyobject(py)
            }
            Self::Head(head) => ("head", head.status, head.headers).into_pyobject(py),
            Self::Chunk(bytes) => ("chunk", PyBytes::new(py, &bytes)).into_pyobject(py),
            Self::End => ("end",).into_pyobject(py),
            Self::Value(value) => ("value", convert::to_python(py, &value)?).into_pyobject(py),
            Self::Failed(kind, message) => ("failed", kind, message).into_pyobject(py),
        }
    }
}

/// The port's side of one exchange.
#[pyclass(frozen)]
pub(super) struct PortExchange {
    id: u64,
    port: Arc<PortState>,
    abort: AbortHandle,
    events: Option<Mutex<mpsc::Receiver<Event>>>,
    flow: Arc<ExchangeFlow>,
    stop: CancellationToken,
}

impl PortExchange {
    /// Begins an exchange for code in this process's interpreter; `None` if the call may not have one
    /// any more.
    pub(super) fn open(
        port: &Arc<PortState>,
        call: Option<&Bound<'_, PortCall>>,
        deliver: Option<Py<PyAny>>,
        begin: impl FnOnce(NewExchange) -> Result<Option<AbortHandle>, String>,
    ) -> PyResult<Option<Self>> {
        let (core, listeners) = (&port.core, &port.listeners);
        let call = call.map(|call| call.get().call.state.clone());
        let id = core.queue.next_id();
        let (sink, events) = match deliver {
            Some(deliver) => {
                // Before the start: the first event may come before `begin` returns.
                listeners.add(id, deliver, call.clone());
                (EventSink::Queue(core.queue.clone(), id), None)
            }
            None => {
                let (sender, events) = mpsc::channel();
                (EventSink::Thread(sender), Some(Mutex::new(events)))
            }
        };
        let flow = Arc::<ExchangeFlow>::default();
        let stop = CancellationToken::new();
        let begun = begin(NewExchange {
            call,
            number: id,
            sink,
            flow: flow.clone(),
            stop: stop.clone(),
            on_end: None,
        });
        if !matches!(begun, Ok(Some(_))) {
            listeners.remove(id);
        }
        let abort = begun.map_err(PyValueError::new_err)?;
        Ok(abort.map(|abort| Self {
            id,
            port: port.clone(),
            abort,
            events,
            flow,
            stop,
        }))
    }
}

#[pymethods]
impl PortExchange {
    #[getter]
    fn number(&self) -> u64 {
        self.id
    }

    /// The next event, for code on a thread.
    fn wait<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let Some(events) = &self.events else {
            return Err(PyValueError::new_err(
                "an exchange of the loop's delivers its events",
            ));
        };
        let event = py.detach(|| {
            let events = events.lock().unwrap_or_else(PoisonError::into_inner);
            events.recv()
        });
        match event {
            Ok(event) => event.into_python(py),
            // The exchange has the only sender, and drops it without a last event only when it is
            // aborted.
            Err(_) => ("cancelled",).into_pyobject(py),
        }
    }

    /// The program has read these bytes of the answer's chunks.
    fn read(&self, bytes: usize) {
        self.flow.read(bytes);
    }

    /// Closes the connection; an event follows.
    fn stop(&self) {
        self.stop.cancel();
    }

    /// Closes the connection.
    fn abort(&self) {
        self.port.listeners.remove(self.id);
        self.abort.abort();
    }
}

/// Reads the attributes of a Python request.
pub(super) fn read_request(request: &Bound<'_, PyAny>) -> PyResult<LmRequest> {
    let method: String = request.getattr("method")?.extract()?;
    let url: String = request.getattr("url")?.extract()?;
    let headers: Vec<(String, String)> = request.getattr("headers")?.extract()?;
    let body: Vec<u8> = request.getattr("body")?.extract()?;
    http::request(&method, &url, headers, body.into()).map_err(PyValueError::new_err)
}
