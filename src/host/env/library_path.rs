//! The `LD_LIBRARY_PATH` of child processes.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::Path,
    process::Command,
};

const VARIABLE: &str = "LD_LIBRARY_PATH";

/// Leaves out the folder by which `cargo run` finds this program's libpython: another Python of the
/// same version would load that in place of its own.
pub(in crate::host) fn leave_out_build_folder(command: &mut Command) {
    let folder = Path::new(env!("OUT_DIR")).join("libpython");
    let Some(path) = env::var_os(VARIABLE) else {
        return;
    };
    match without(&path, &folder) {
        Some(rest) if rest.is_empty() => command.env_remove(VARIABLE),
        Some(rest) => command.env(VARIABLE, rest),
        None => command,
    };
}

/// The folders without this one, if it is among them.
pub(super) fn without(path: &OsStr, folder: &Path) -> Option<OsString> {
    let is_other = |other: &std::path::PathBuf| other != folder;
    if env::split_paths(path).all(|other| is_other(&other)) {
        return None;
    }
    env::join_paths(env::split_paths(path).filter(is_other)).ok()
}
