//! The check of `PYTHONHOME`, which takes the place of the standard library's folder.

use std::{env, ffi::OsStr, fs, path::Path};

use super::{error::EnvError, linked::LinkedPython};

/// Refuses a `PYTHONHOME` of another installation: the interpreter in this process would follow it.
pub(in crate::host) fn check(linked: &LinkedPython) -> Result<(), EnvError> {
    check_value(&env::var_os("PYTHONHOME").unwrap_or_default(), linked)
}

/// The same with the variable's value.
pub(super) fn check_value(home: &OsStr, linked: &LinkedPython) -> Result<(), EnvError> {
    let real = |path: &Path| fs::canonicalize(path).ok();
    let is_ours =
        real(Path::new(home)).is_some_and(|home| Some(home) == real(linked.base_prefix()));
    if home.is_empty() || is_ours {
        return Ok(());
    }
    Err(EnvError::PythonHome {
        home: home.into(),
        linked: linked.base_prefix().to_owned(),
    })
}
