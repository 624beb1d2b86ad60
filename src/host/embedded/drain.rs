//! What wakes the loop: hands to Python's runner what the inbox has.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::{intern, prelude::*};

use super::{
    convert,
    listeners::Listeners,
    port::{Pending, Port},
};
use crate::host::core::{
    fault::Fault,
    inbox::{Control, Inbox, Start},
    log,
    registry::Numbered,
    running::Running,
};

/// Called by the loop when the inbox has something: hands it to the runner.
#[pyclass(frozen)]
pub(super) struct Drain {
    inbox: Arc<Inbox>,
    listeners: Arc<Listeners>,
    adopted: Arc<Mutex<Vec<usize>>>,
    cancel: Py<PyAny>,
    load: Py<PyAny>,
    unload: Py<PyAny>,
    start: Py<PyAny>,
    stop: Py<PyAny>,
    pacer: Py<PyAny>,
    call_soon: Py<PyAny>,
}

impl Drain {
    pub(super) fn new(
        inbox: Arc<Inbox>,
        port: &Port,
        runner: &Bound<'_, PyAny>,
        pacer: Bound<'_, PyAny>,
        event_loop: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let method = |name: &str| runner.getattr(name).map(Bound::unbind);
        Ok(Self {
            inbox,
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

    fn control(&self, py: Python<'_>, control: Control) -> PyResult<()> {
        match control {
            Control::Cancel(sequence) => {
                self.cancel.bind(py).call1((sequence,))?;
            }
            Control::Load {
                spec,
                mut leases,
                reply,
            } => {
                let loaded = convert::to_dict(py, &spec)
                    .map_err(|(_, error)| error)
                    .and_then(|spec| self.load.bind(py).call1((spec,)))
                    .and_then(|loaded| convert::from_python(&loaded))
                    .map_err(|error| Fault::of(py, &error));
                let adopted = self.adopted.lock();
                for id in adopted.unwrap_or_else(PoisonError::into_inner).drain(..) {
                    leases.hold(Numbered::Lm(id));
                }
                let loaded = loaded.map(|loaded| leases.with_program(loaded));
                // If whoever asked has gone, the program goes as well.
                let _ = reply.send(loaded);
            }
            // For worker processes alone: `Host::replace_spec` sends it to no other host.
            #[cfg(feature = "workers")]
            Control::Replace { reply, .. } => drop(reply),
            Control::Unload(target) => {
                self.unload.bind(py).call1((target,))?;
            }
            Control::Stop { grace } => {
                self.stop.bind(py).call1((grace.as_secs_f64(),))?;
            }
        }
        Ok(())
    }

    fn start(&self, py: Python<'_>, start: Start) -> PyResult<()> {
        let Some(start) = start.begin(&self.inbox.counters) else {
            return Ok(());
        };
        let (sequence, target) = (start.sequence, start.target);
        let remaining = start.time_left().map(|left| left.as_secs_f64());
        let inputs = start.inputs.clone();
        let pending = Bound::new(py, Pending(Running::new(self.inbox.clone(), start)))?;
        let begun = convert::to_dict(py, &inputs)
            .map_err(|(field, error)| Fault::of_input(py, field, &error))
            .and_then(|inputs| {
                let arguments = (sequence, &pending, target, inputs, remaining);
                let started = self.start.bind(py).call1(arguments);
                started.map_err(|error| Fault::of(py, &error))
            });
        if let Err(fault) = begun {
            pending.get().0.finished(Err(fault));
        }
        Ok(())
    }
}

#[pymethods]
impl Drain {
    fn __call__(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let inbox = &this.inbox;
        inbox.awake();
        inbox.counters.crossing.touch();
        while let Some(control) = inbox.next_control() {
            if let Err(error) = this.control(py, control) {
                log::python_failed(&Fault::of(py, &error));
            }
        }
        if !inbox.has_more() {
            return Ok(());
        }
        let pacer = this.pacer.bind(py);
        let allowance: usize = pacer.call_method0(intern!(py, "current"))?.extract()?;
        for _ in 0..allowance {
            // What has begun goes before what is to begin.
            // A failure of one must not hold up the others.
            let handed_over = if let Some((exchange, event)) = inbox.next_delivery() {
                this.listeners.deliver(py, exchange, event)
            } else if let Some(start) = inbox.next_start() {
                this.start(py, start)
            } else {
                return Ok(());
            };
            if let Err(error) = handed_over {
                log::python_failed(&Fault::of(py, &error));
            }
        }
        if inbox.has_more() {
            pacer.call_method0(intern!(py, "defer"))?;
            this.call_soon.bind(py).call1((slf,))?;
        }
        Ok(())
    }
}
