//! The load of a program in the interpreter of this process, as Python's runner sees it.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use serde_json::Value;
use tokio::sync::oneshot;

use super::{convert, port_state::PortState};
use crate::host::core::{fault::Fault, queue::LoadOutcome, registry::Registrations};

/// The port's side of one load.
#[pyclass(frozen)]
pub(super) struct PortLoad {
    port: Arc<PortState>,
    /// `None` once it has ended.
    open: Mutex<Option<(Registrations, oneshot::Sender<LoadOutcome>)>>,
}

impl PortLoad {
    pub(super) fn new(
        port: Arc<PortState>,
        registrations: Registrations,
        reply: oneshot::Sender<LoadOutcome>,
    ) -> Self {
        Self {
            port,
            open: Mutex::new(Some((registrations, reply))),
        }
    }

    pub(super) fn finish(&self, loaded: Result<Value, Fault>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((mut registrations, reply)) = open.take() else {
            return;
        };
        for lm in self.port.adopted().drain(..) {
            registrations.add(lm);
        }
        let queue = &self.port.core.queue;
        let loaded = loaded.map(|loaded| queue.register_program(loaded, registrations));
        // If the caller has gone, the program goes as well.
        let _ = reply.send(loaded);
    }
}

#[pymethods]
impl PortLoad {
    /// Whether its caller still waits.
    fn is_wanted(&self) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().is_some_and(|(_, reply)| !reply.is_closed())
    }

    /// The load goes on. LMs are adopted in its last part alone, which is not interrupted.
    #[expect(clippy::unused_self, reason = "a worker's side names its load")]
    fn resumed(&self) {}

    fn loaded(&self, described: &Bound<'_, PyAny>) {
        let loaded = convert::from_python(described);
        self.finish(loaded.map_err(|error| Fault::of(described.py(), &error)));
    }

    fn failed(&self, described: &Bound<'_, PyAny>) {
        let fault = convert::from_python(described);
        self.finish(Err(
            fault.unwrap_or_else(|error| Fault::of(described.py(), &error))
        ));
    }
}
