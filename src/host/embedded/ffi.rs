//! The start of the interpreter on a venv: the one file that calls CPython directly.

#![expect(
    unsafe_code,
    reason = "starting an interpreter with a configuration has no safe interface"
)]

use std::{
    ffi::{CStr, CString},
    mem::MaybeUninit,
    os::unix::ffi::OsStrExt,
    path::Path,
};

use pyo3::{Python, ffi};

/// Starts the interpreter as if `python`, the program of a venv, had been run: with that venv's
/// packages, and with no signal handlers. The calling thread becomes Python's main thread and
/// leaves without the GIL.
pub(super) fn initialize(python: &Path) -> Result<(), String> {
    let program = CString::new(python.as_os_str().as_bytes())
        .map_err(|_| format!("the path {} holds a zero byte", python.display()))?;

    // SAFETY: the calls follow the order that CPython's "Python Initialization Configuration"
    // asks for. The configuration is initialized before use and cleared on every way out; nobody
    // else starts an interpreter, as the caller holds the process-wide start lock.
    unsafe {
        if ffi::Py_IsInitialized() != 0 {
            return Err(
                "this process already runs a Python interpreter: one that is not ours, or one \
                 that a start which failed had to leave behind"
                    .into(),
            );
        }
        let mut config = MaybeUninit::<ffi::PyConfig>::zeroed();
        ffi::PyConfig_InitPythonConfig(config.as_mut_ptr());
        let mut config = config.assume_init();
        config.parse_argv = 0;
        config.install_signal_handlers = 0;
        // `executable` and not `program_name`: with the latter PATH would choose the library.
        let set =
            ffi::PyConfig_SetBytesString(&mut config, &raw mut config.executable, program.as_ptr());
        let started =
            failure(set).map_or_else(|| failure(ffi::Py_InitializeFromConfig(&config)), Some);
        ffi::PyConfig_Clear(&mut config);
        if let Some(reason) = started {
            return Err(reason);
        }
        ffi::PyEval_SaveThread();
    }
    // Makes the running interpreter known to pyo3.
    Python::initialize();
    Ok(())
}

/// The version of the libpython that is linked, such as `3.11.7 (main, ...)`; needs no interpreter.
pub(in crate::host) fn linked_version() -> String {
    // SAFETY: `Py_GetVersion` returns a static string and may be called before initialization.
    let version = unsafe { CStr::from_ptr(ffi::Py_GetVersion()) };
    version.to_string_lossy().into_owned()
}

/// The message of a status, if it is an error.
///
/// # Safety
/// `status` must come from CPython: its strings are null or valid.
unsafe fn failure(status: ffi::PyStatus) -> Option<String> {
    // SAFETY: see above.
    unsafe {
        if ffi::PyStatus_Exception(status) == 0 {
            return None;
        }
        if status.err_msg.is_null() {
            return Some(format!("CPython gave the exit code {}", status.exitcode));
        }
        let message = CStr::from_ptr(status.err_msg);
        Some(message.to_string_lossy().into_owned())
    }
}
