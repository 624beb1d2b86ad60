//! The embedded port: what Python's runner calls, and what wakes it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
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

/// A call that has been started and is not settled.
struct Pending {
    call_id: CallId,
    outcome: Option<oneshot::Sender<Outcome>>,
    state: Arc<CallState>,
    held: Held,
}

/// The port's Rust side. Called on Python's thread only.
#[pyclass(frozen)]
pub(super) struct Port {
    inbox: Arc<Inbox>,
    pending: Mutex<HashMap<u64, Pending>>,
    stopped: AtomicBool,
}

impl Port {
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Self {
            inbox,
            pending: Mutex::default(),
            stopped: AtomicBool::new(false),
        }
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<u64, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outcome(&self, sequence: u64, outcome: Outcome) {
        let Some((sender, state)) = self.pending().get_mut(&sequence).and_then(|pending| {
            let sender = pending.outcome.take()?;
            Some((sender, pending.state.clone()))
        }) else {
            return;
        };
        state.outcome_out(&self.inbox.counters);
        self.inbox.counters.crossing.touch();
        // Fails if nobody waits any more, and then nothing is owed.
        let _ = sender.send(outcome);
    }

    /// Gives up what Python never settled: the loop is gone.
    pub(super) fn abandon(&self) {
        self.pending().clear();
    }
}

#[pymethods]
impl Port {
    fn done(&self, sequence: u64, value: &Bound<'_, PyAny>) {
        let value = convert::from_python(value).map_err(|error| Fault::of(value.py(), &error));
        self.outcome(sequence, value);
    }

    fn failed(&self, sequence: u64, described: &Bound<'_, PyDict>) {
        self.outcome(sequence, Err(fault::read_dict(described)));
    }

    fn settled(&self, sequence: u64, strays: Option<Vec<String>>) {
        let Some(pending) = self.pending().remove(&sequence) else {
            return;
        };
        if let Some(strays) = strays {
            self.inbox.counters.strays.add(strays.len() as u64);
            tracing::warn!(
                target: "tower_dspy",
                call_id = pending.call_id.get(),
                tasks = strays.join(", "),
                "the call left tasks behind; they were cancelled"
            );
        }
        // What the call holds goes first: whoever sees it settled finds the permit free.
        drop(pending.held);
        pending.state.settle(&self.inbox.counters);
    }

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

/// Called by the loop when the inbox has something: hands it to the runner.
#[pyclass(frozen)]
pub(super) struct Drain {
    port: Py<Port>,
    runner: Py<PyAny>,
    pacer: Py<PyAny>,
    call_soon: Py<PyAny>,
}

impl Drain {
    pub(super) fn new(
        port: Py<Port>,
        runner: Py<PyAny>,
        pacer: Py<PyAny>,
        call_soon: Py<PyAny>,
    ) -> Self {
        Self {
            port,
            runner,
            pacer,
            call_soon,
        }
    }

    fn control(&self, py: Python<'_>, control: Control) -> PyResult<()> {
        let runner = self.runner.bind(py);
        match control {
            Control::Cancel(call_id) => {
                runner.call_method1(intern!(py, "cancel"), (call_id,))?;
            }
            Control::Load { spec, reply } => {
                let loaded = convert::to_dict(py, &spec)
                    .and_then(|spec| runner.call_method1(intern!(py, "load"), (spec,)))
                    .and_then(|loaded| convert::from_python(&loaded))
                    .map_err(|error| Fault::of(py, &error));
                // Whoever asked may have gone; the program stays loaded.
                let _ = reply.send(loaded);
            }
            Control::Stop { grace } => {
                runner.call_method1(intern!(py, "stop"), (grace.as_secs_f64(),))?;
            }
        }
        Ok(())
    }

    fn start(&self, py: Python<'_>, start: Start) {
        let port = self.port.get();
        let counters = &port.inbox.counters;
        if start.state.is_cancelled() {
            counters.never_started.add(1);
            drop(start.held);
            start.state.settle(counters);
            let _ = start.outcome.send(Err(Fault::cancelled_before_start()));
            return;
        }
        counters.started.add(1);
        let waited = super::inbox::now().saturating_sub(start.queued_at);
        let remaining = start
            .remaining
            .map(|remaining| remaining.saturating_sub(waited).as_secs_f64());
        port.pending().insert(
            start.sequence,
            Pending {
                call_id: start.call_id,
                outcome: Some(start.outcome),
                state: start.state,
                held: start.held,
            },
        );
        let begun = convert::to_dict(py, &start.inputs).and_then(|inputs| {
            self.runner.bind(py).call_method1(
                intern!(py, "start"),
                (start.sequence, start.target, inputs, remaining),
            )
        });
        if let Err(error) = begun {
            port.outcome(start.sequence, Err(Fault::of(py, &error)));
            port.settled(start.sequence, None);
        }
    }
}

#[pymethods]
impl Drain {
    fn __call__(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let inbox = &this.port.get().inbox;
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
                Some(start) => this.start(py, start),
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
