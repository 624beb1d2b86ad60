//! JSON to Python and back, on Python's thread, by the same functions as in a worker.

use pyo3::{exceptions::PyValueError, prelude::*, sync::PyOnceLock};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A JSON value as a Python object.
pub(super) fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    static FROM_JSON: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let from_json = FROM_JSON.import(py, "tower_dspy.payload", "from_json")?;
    from_json.call1((value.to_string(),))
}

/// Reads a Python object made of dicts, lists, tuples, strings, numbers, booleans and None.
pub(super) fn from_python<T: DeserializeOwned>(object: &Bound<'_, PyAny>) -> PyResult<T> {
    static TO_JSON: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let to_json = TO_JSON.import(object.py(), "tower_dspy.payload", "to_json")?;
    let json = to_json.call1((object,))?;
    serde_json::from_slice(json.extract()?)
        .map_err(|error| PyValueError::new_err(format!("the value is not JSON: {error}")))
}
