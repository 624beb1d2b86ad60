//! Python's strings as Rust's.
//!
//! A Python string may hold lone surrogates: half an emoji in an LM's answer that was cut short, a
//! file name that is no UTF-8. Each becomes U+FFFD, so that no message, log record or answer is lost
//! to it.

use pyo3::{prelude::*, types::PyString};

/// An argument that Python hands over as a string.
#[derive(Debug)]
pub(super) struct Text(pub(super) String);

impl<'py> FromPyObject<'_, 'py> for Text {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        read(&*object.cast::<PyString>()?).map(Self)
    }
}

/// The string in valid UTF-8.
pub(super) fn read(text: &Bound<'_, PyString>) -> PyResult<String> {
    if let Ok(text) = text.to_str() {
        return Ok(text.to_owned());
    }
    let payload = text.py().import("tower_dspy.payload")?;
    let utf8 = payload.call_method1("to_utf8", (text,))?;
    Ok(String::from_utf8_lossy(utf8.extract()?).into_owned())
}
