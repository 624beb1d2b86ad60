//! The listeners of code on the loop to the events of its exchanges.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pyo3::prelude::*;

use crate::host::core::{call_state::CallState, event::Event};

/// The listeners by the number of their exchange. Used on Python's threads only.
#[derive(Default)]
pub(super) struct EventListeners(Mutex<HashMap<u64, EventListener>>);

struct EventListener {
    deliver: Py<PyAny>,
    call: Option<Arc<CallState>>,
}

impl EventListeners {
    fn map(&self) -> MutexGuard<'_, HashMap<u64, EventListener>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, id: u64, deliver: Py<PyAny>, call: Option<Arc<CallState>>) {
        self.map().insert(id, EventListener { deliver, call });
    }

    pub(super) fn remove(&self, id: u64) {
        self.map().remove(&id);
    }

    /// Hands an event to Python, unless the call was cancelled since it was sent.
    pub(super) fn deliver(&self, py: Python<'_>, id: u64, event: Event) -> PyResult<()> {
        let mut map = self.map();
        let Some(EventListener { deliver, call }) = map.get(&id) else {
            return Ok(());
        };
        if call.as_ref().is_some_and(|call| call.is_cancelled()) {
            return Ok(());
        }
        let deliver = deliver.clone_ref(py);
        if event.is_last() {
            map.remove(&id);
        }
        drop(map);
        deliver.bind(py).call1((event.into_python(py)?,))?;
        Ok(())
    }
}
