//! The embedded port: what Python's runner calls, and what wakes it.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use pyo3::{intern, prelude::*, types::PyDict};
use tokio::sync::oneshot;

use super::{
    call::{CallState, Outcome},
    convert,
    fault::{self, Fault},
    inbox::{Control, Held, Inbox, Start},
    log,
};
use crate::CallId;

/// The port's own side, called by the runner on Python's thread.
#[pyclass(frozen)]
pub(super) struct Port {
    inbox: Arc<Inbox>,
    stopped: AtomicBool,
}

impl Port {
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Self {
            inbox,
            stopped: AtomicBool::new(false),
        }
    }
}

#[pymethods]
impl Port {
    fn beat(&self) {
        self.inbox.counters.beat.touch();
    }

    fn stopped(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    #[staticmethod]
    fn log(level: u32, logger: &str, message: &str) {
        log::forward(level, logger, message);
    }
}

/// The port's side of one call that has been started.
#[pyclass(frozen)]
struct Pending {
    call_id: CallId,
    inbox: Arc<Inbox>,
    state: Arc<CallState>,
    parts: Mutex<Parts>,
}

/// What is given away, each once.
struct Parts {
    outcome: Option<oneshot::Sender<Outcome>>,
    held: Held,
}

impl Pending {
    fn parts<T>(&self, take: impl FnOnce(&mut Parts) -> T) -> T {
        take(&mut self.parts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn resolve(&self, outcome: Outcome) {
        if let Some(sender) = self.parts(|parts| parts.outcome.take()) {
            self.state.outcome_out(&self.inbox.counters);
            // Fails if nobody waits any more, and then nothing is owed.
            let _ = sender.send(outcome);
        }
    }

    fn settle(&self) {
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
                call_id = self.call_id.get(),
                tasks = strays.join(", "),
                "the call left tasks behind; they were cancelled"
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

    /// The loop ends: the caller learns that the host is gone, and the work stays counted.
    fn abandon(&self) {
        drop(self.parts(|parts| (parts.outcome.take(), parts.held.take())));
        self.state.outcome_out(&self.inbox.counters);
    }
}

/// Called by the loop when the inbox has something: hands it to the runner.
#[pyclass(frozen)]
pub(super) struct Drain {
    inbox: Arc<Inbox>,
    cancel: Py<PyAny>,
    load: Py<PyAny>,
    start: Py<PyAny>,
    stop: Py<PyAny>,
    pacer: Py<PyAny>,
    call_soon: Py<PyAny>,
}

impl Drain {
    pub(super) fn new(
        inbox: Arc<Inbox>,
        runner: &Bound<'_, PyAny>,
        pacer: Bound<'_, PyAny>,
        event_loop: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let method = |name: &str| runner.getattr(name).map(Bound::unbind);
        Ok(Self {
            inbox,
            cancel: method("cancel")?,
            load: method("load")?,
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
            Control::Load { spec, reply } => {
                let loaded = convert::to_dict(py, &spec)
                    .and_then(|spec| self.load.bind(py).call1((spec,)))
                    .and_then(|loaded| convert::from_python(&loaded))
                    .map_err(|error| Fault::of(py, &error));
                // Whoever asked may have gone; the program stays loaded.
                let _ = reply.send(loaded);
            }
            Control::Stop { grace } => {
                self.stop.bind(py).call1((grace.as_secs_f64(),))?;
            }
        }
        Ok(())
    }

    fn start(&self, py: Python<'_>, start: Start) -> PyResult<()> {
        let counters = &self.inbox.counters;
        if start.state.is_cancelled() {
            counters.never_started.add(1);
            drop(start.held);
            start.state.settle(counters);
            let _ = start.outcome.send(Err(Fault::cancelled_before_start()));
            return Ok(());
        }
        counters.started.add(1);
        let remaining = start.remaining.map(|remaining| {
            let waited = super::inbox::now().saturating_sub(start.queued_at);
            remaining.saturating_sub(waited).as_secs_f64()
        });
        let pending = Bound::new(
            py,
            Pending {
                call_id: start.call_id,
                inbox: self.inbox.clone(),
                state: start.state,
                parts: Mutex::new(Parts {
                    outcome: Some(start.outcome),
                    held: start.held,
                }),
            },
        )?;
        let begun = convert::to_dict(py, &start.inputs).and_then(|inputs| {
            let arguments = (start.sequence, &pending, start.target, inputs, remaining);
            self.start.bind(py).call1(arguments)
        });
        if let Err(error) = begun {
            pending.get().resolve(Err(Fault::of(py, &error)));
            pending.get().settle();
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
        if inbox.queued() == 0 {
            return Ok(());
        }
        let pacer = this.pacer.bind(py);
        let allowance: usize = pacer.call_method0(intern!(py, "allowance"))?.extract()?;
        for _ in 0..allowance {
            match inbox.next_start() {
                Some(start) => this.start(py, start)?,
                None => return Ok(()),
            }
        }
        if inbox.queued() > 0 {
            pacer.call_method0(intern!(py, "held_back"))?;
            this.call_soon.bind(py).call1((slf,))?;
        }
        Ok(())
    }
}
