//! Exceptions of the interpreter in this process as owned Rust data.

use pyo3::{prelude::*, types::PyDict};

use super::{
    convert,
    fault::{Fault, FaultKind},
};

impl Fault {
    /// Reads an exception that reached Rust.
    pub(super) fn of(py: Python<'_>, error: &PyErr) -> Self {
        let described = py
            .import("tower_dspy.faults")
            .and_then(|faults| faults.call_method1("describe", (error.value(py),)))
            .and_then(|described| convert::from_python(&described));
        match described {
            Ok(described) => Self::read(&described),
            // Before our own modules are there, or when Python has no memory left.
            Err(_) => Self::new(
                error.get_type(py).qualname().map_or_else(
                    |_| "an exception".to_owned(),
                    |name| name.to_string_lossy().into_owned(),
                ),
                error.value(py).str().map_or_else(
                    |_| String::new(),
                    |text| text.to_string_lossy().into_owned(),
                ),
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
        Ok(described) => Fault::read(&described),
        Err(error) => Fault::of(described.py(), &error),
    }
}
