//! Who on the loop hears of the events of exchanges.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pyo3::prelude::*;

use crate::host::core::{call_state::CallState, event::Event};

/// The exchanges of code on the loop: who is to hear of their events. Touched on Python's threads
/// only.
#[derive(Default)]
pub(super) struct Listeners(Mutex<HashMap<u64, Listener>>);

struct Listener {
    deliver: Py<PyAny>,
    call: Option<Arc<CallState>>,
}

impl Listeners {
    fn map(&self) -> MutexGuard<'_, HashMap<u64, Listener>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, id: u64, deliver: Py<PyAny>, call: Option<Arc<CallState>>) {
        self.map().insert(id, Listener { deliver, call });
    }

    pub(super) fn remove(&self, id: u64) {
        self.map().remove(&id);
    }

    /// Hands an event to Python, unless the call was cancelled since it was sent.
    pub(super) fn deliver(&self, py: Python<'_>, id: u64, event: Event) -> PyResult<()> {
        let deliver = {
            let mut map = self.map();
            let Some(listener) = map.get(&id) else {
                return Ok(());
            };
            if listener
                .call
                .as_ref()
                .is_some_and(|call| call.is_cancelled())
            {
                return Ok(());
            }
            let deliver = listener.deliver.clone_ref(py);
            if event.is_last() {
                map.remove(&id);
            }
            deliver
        };
        deliver.bind(py).call1((event.into_python(py)?,))?;
        Ok(())
    }
}
