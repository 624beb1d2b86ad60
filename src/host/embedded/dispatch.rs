//! The dispatch of a host's queue on its loop, to Python's runner.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::{intern, prelude::*};

use super::{convert, event_listeners::EventListeners, port::Port, port_call::PortCall};
use crate::host::core::{
    fault::Fault,
    log,
    loop_monitor::LoopMonitor,
    queue::{Command, CommandQueue},
    queued_call::QueuedCall,
    registry::Registration,
    running_call::RunningCall,
};

/// Called by the loop when the queue wakes it.
#[pyclass(frozen)]
pub(super) struct Dispatch {
    queue: Arc<CommandQueue>,
    monitor: Arc<LoopMonitor>,
    listeners: Arc<EventListeners>,
    adopted: Arc<Mutex<Vec<Registration>>>,
    cancel: Py<PyAny>,
    load: Py<PyAny>,
    unload: Py<PyAny>,
    start: Py<PyAny>,
    stop: Py<PyAny>,
    pacer: Py<PyAny>,
    call_soon: Py<PyAny>,
}

impl Dispatch {
    pub(super) fn new(
        queue: Arc<CommandQueue>,
        monitor: Arc<LoopMonitor>,
        port: &Port,
        runner: &Bound<'_, PyAny>,
        pacer: Bound<'_, PyAny>,
        event_loop: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let method = |name: &str| runner.getattr(name).map(Bound::unbind);
        Ok(Self {
            queue,
            monitor,
            listeners: port.listeners(),
            adopted: port.adopted(),
            cancel: method("cancel")?,
            load: method("load")?,
            unload: method("unload")?,
            start: method("start")?,
            stop: method("stop")?,
            pacer: pacer.unbind(),
            call_soon: event_loop.getattr("call_soon")?.unbind(),
        })
    }

    fn command(&self, py: Python<'_>, command: Command) -> PyResult<()> {
        match command {
            Command::Cancel(sequence) => {
                self.cancel.bind(py).call1((sequence,))?;
            }
            Command::Load {
                spec,
                mut registrations,
                reply,
            } => {
                let loaded = convert::to_dict(py, &spec)
                    .map_err(|(_, error)| error)
                    .and_then(|spec| self.load.bind(py).call1((spec,)))
                    .and_then(|loaded| convert::from_python(&loaded))
                    .map_err(|error| Fault::of(py, &error));
                let adopted = self.adopted.lock();
                for lm in adopted.unwrap_or_else(PoisonError::into_inner).drain(..) {
                    registrations.add(lm);
                }
                let loaded =
                    loaded.map(|loaded| self.queue.register_program(loaded, registrations));
                // If the caller has gone, the program goes as well.
                let _ = reply.send(loaded);
            }
            // For worker processes alone: `Host::replace_spec` sends it to no other host.
            #[cfg(feature = "workers")]
            Command::Replace { reply, .. } => drop(reply),
            Command::Unload(target) => {
                self.unload.bind(py).call1((target,))?;
            }
            Command::Stop { grace } => {
                self.stop.bind(py).call1((grace.as_secs_f64(),))?;
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
        let pending = RunningCall::new(call);
        let pending = PortCall::new(pending, self.queue.clone(), self.monitor.clone());
        let pending = Bound::new(py, pending)?;
        let begun = convert::to_dict(py, &inputs)
            .map_err(|(field, error)| Fault::of_input(py, field, &error))
            .and_then(|inputs| {
                let arguments = (sequence, &pending, target, inputs, remaining);
                let started = self.start.bind(py).call1(arguments);
                started.map_err(|error| Fault::of(py, &error))
            });
        if let Err(fault) = begun {
            pending.get().finish(Err(fault));
        }
        Ok(())
    }
}

#[pymethods]
impl Dispatch {
    fn __call__(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let queue = &this.queue;
        queue.wake_up().acknowledge();
        this.monitor.progress();
        while let Some(command) = queue.pop_command() {
            if let Err(error) = this.command(py, command) {
                log::python_failed(&Fault::of(py, &error));
            }
        }
        if !queue.has_more() {
            return Ok(());
        }
        let pacer = this.pacer.bind(py);
        let allowance: usize = pacer.call_method0(intern!(py, "current"))?.extract()?;
        for _ in 0..allowance {
            // Events of calls that run go before calls that are to start. A failure of one must
            // not hold up the others.
            let dispatched = if let Some((exchange, event)) = queue.pop_event() {
                this.listeners.deliver(py, exchange, event)
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
            pacer.call_method0(intern!(py, "defer"))?;
            this.call_soon.bind(py).call1((slf,))?;
        }
        Ok(())
    }
}
