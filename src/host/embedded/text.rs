//! Python's strings as Rust's.
//!
//! A Python string may hold lone surrogates: half an emoji in an LM's answer that was cut short, a
//! file name that is no UTF-8. Each becomes U+FFFD, so that no message, log record or answer is lost
//! to it. Of a worker, `to_utf8` of payload.py does the same.

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
    // By way of UTF-16, in which two halves that stand together are one character.
    let utf16 = text.call_method1("encode", ("utf-16-le", "surrogatepass"))?;
    let utf16: Vec<u8> = utf16.extract()?;
    let units = utf16.as_chunks::<2>().0.iter();
    let units: Vec<u16> = units.map(|unit| u16::from_le_bytes(*unit)).collect();
    Ok(String::from_utf16_lossy(&units))
}
