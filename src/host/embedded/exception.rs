//! The conversion of Python exceptions to owned Rust data.

use pyo3::{prelude::*, types::PyString};

use super::{convert, text};
use crate::host::core::fault::Fault;

impl Fault {
    /// Reads an exception that reached Rust.
    pub(super) fn of(py: Python<'_>, error: &PyErr) -> Self {
        let described = py
            .import("tower_dspy.faults")
            .and_then(|faults| faults.call_method1("describe", (error.value(py),)))
            .and_then(|described| convert::from_python(&described));
        // It fails before our own modules are there, or when Python has no memory left.
        described.unwrap_or_else(|_| {
            Self::new(
                read(error.get_type(py).qualname()).unwrap_or_else(|| "an exception".into()),
                read(error.value(py).str()).unwrap_or_default(),
            )
        })
    }
}

fn read(text: PyResult<Bound<'_, PyString>>) -> Option<String> {
    text.and_then(|text| text::read(&text)).ok()
}
