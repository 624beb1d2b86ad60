//! The conversion of Python exceptions to owned Rust data.

use pyo3::{
    prelude::*,
    types::{PyDict, PyString},
};

use super::{convert, text};
use crate::host::core::fault::{Fault, FaultKind};

impl Fault {
    /// Reads an exception that reached Rust.
    pub(super) fn of(py: Python<'_>, error: &PyErr) -> Self {
        let described = py
            .import("tower_dspy.faults")
            .and_then(|faults| faults.call_method1("describe", (error.value(py),)))
            .and_then(|described| convert::from_python(&described));
        match described {
            Ok(described) => described.into(),
            // Before our own modules are there, or when Python has no memory left.
            Err(_) => Self::new(
                read(error.get_type(py).qualname()).unwrap_or_else(|| "an exception".into()),
                read(error.value(py).str()).unwrap_or_default(),
            ),
        }
    }

    /// The outcome of a call whose input `field` has no Python value.
    pub(super) fn of_input(py: Python<'_>, field: &str, error: &PyErr) -> Self {
        let fault = Self::of(py, error);
        Self {
            message: format!("the input `{field}` cannot be taken: {}", fault.message),
            kind: FaultKind::InvalidInput {
                field: field.to_owned(),
                expected: "what Python can hold".to_owned(),
            },
            ..fault
        }
    }
}

/// Reads the outcome dict that a port hands over.
pub(super) fn read_dict(described: &Bound<'_, PyDict>) -> Fault {
    match convert::from_python(described.as_any()) {
        Ok(described) => described.into(),
        Err(error) => Fault::of(described.py(), &error),
    }
}

fn read(text: PyResult<Bound<'_, PyString>>) -> Option<String> {
    text.and_then(|text| text::read(&text)).ok()
}
