//! The import of this crate's Python modules in the interpreter of this process.

use pyo3::{prelude::*, types::PyDict};

use crate::host::sources::{BOOTSTRAP, MODULES};

/// Makes `import tower_dspy` find the sources in this binary, before any on the path.
pub(super) fn install(py: Python<'_>) -> PyResult<()> {
    let sources = PyDict::new(py);
    for (name, source) in MODULES {
        sources.set_item(*name, *source)?;
    }
    let bootstrap = PyModule::from_code(
        py,
        &std::ffi::CString::new(BOOTSTRAP)?,
        c"<tower-dspy>/tower_dspy/bootstrap.py",
        c"tower_dspy_bootstrap",
    )?;
    bootstrap.call_method1("install", (sources,))?;
    Ok(())
}
