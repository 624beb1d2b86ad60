//! The dispatch of a host's queue on its loop, to Python's runner.

use std::sync::Arc;

use pyo3::{intern, prelude::*};

use super::{convert, port_call::PortCall, port_load::PortLoad, port_state::PortState};
use crate::host::core::{
    fault::Fault, log, queue::Command, queued_call::QueuedCall, running_call::RunningCall,
};

/// Called by the loop when the queue wakes it.
#[pyclass(frozen)]
pub(super) struct Dispatch {
    pub(super) port: Arc<PortState>,
    pub(super) runner: Py<PyAny>,
    pub(super) start_limit: Py<PyAny>,
    pub(super) event_loop: Py<PyAny>,
}

impl Dispatch {
    fn command(&self, py: Python<'_>, command: Command) -> PyResult<()> {
        let (port, runner) = (&self.port, self.runner.bind(py));
        match command {
            Command::Cancel(sequence) => {
                runner.call_method1(intern!(py, "cancel"), (sequence,))?;
            }
            Command::Load {
                spec,
                registrations,
                reply,
            } => {
                let load = PortLoad::new(port.clone(), registrations, reply);
                let load = Bound::new(py, load)?;
                let begun = convert::to_python(py, &spec)
                    .and_then(|spec| runner.call_method1(intern!(py, "load"), (spec, &load)));
                if let Err(error) = begun {
                    load.get().finish(Err(Fault::of(py, &error)));
                }
            }
            // For worker processes alone: `Host::replace` sends it to no other host.
            #[cfg(feature = "workers")]
            Command::Replace { reply, .. } => drop(reply),
            Command::Unload(target) => {
                runner.call_method1(intern!(py, "unload"), (target,))?;
            }
            Command::Stop { grace } => {
                runner.call_method1(intern!(py, "stop"), (grace.as_secs_f64(),))?;
            }
        }
        Ok(())
    }

    fn start(&self, py: Python<'_>, call: QueuedCall) -> PyResult<()> {
        let Some(call) = call.begin() else {
            return Ok(());
        };
        let (sequence, target) = (call.sequence, call.target);
        let remaining = call.time_left().map(|left| left.as_secs_f64());
        let inputs = call.inputs.clone();
        let pending = PortCall {
            call: RunningCall::new(call),
            port: self.port.clone(),
        };
        let pending = Bound::new(py, pending)?;
        let begun = convert::to_python(py, &inputs).and_then(|inputs| {
            let arguments = (sequence, &pending, target, inputs, remaining);
            let runner = self.runner.bind(py);
            runner.call_method1(intern!(py, "start"), arguments)
        });
        if let Err(error) = begun {
            pending.get().finish(Err(Fault::of(py, &error)));
        }
        Ok(())
    }
}

#[pymethods]
impl Dispatch {
    fn __call__(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let port = &this.port;
        let queue = &port.core.queue;
        queue.wake_up().acknowledge();
        port.monitor.progress();
        while let Some(command) = queue.pop_command() {
            if let Err(error) = this.command(py, command) {
                log::python_failed(&Fault::of(py, &error));
            }
        }
        if !queue.has_more() {
            return Ok(());
        }
        let start_limit = this.start_limit.bind(py);
        let limit: usize = start_limit
            .call_method0(intern!(py, "current"))?
            .extract()?;
        for _ in 0..limit {
            // Events of calls that run go before calls that are to start. A failure of one must
            // not hold up the others.
            let dispatched = if let Some((exchange, event)) = queue.pop_event() {
                port.listeners.deliver(py, exchange, event)
            } else if let Some(call) = queue.pop_call() {
                this.start(py, call)
            } else {
                return Ok(());
            };
            if let Err(error) = dispatched {
                log::python_failed(&Fault::of(py, &error));
            }
        }
        if queue.has_more() {
            start_limit.call_method0(intern!(py, "defer"))?;
            let event_loop = this.event_loop.bind(py);
            event_loop.call_method1(intern!(py, "call_soon"), (slf,))?;
        }
        Ok(())
    }
}
