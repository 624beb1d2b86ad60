//! The remedy for a path that is no venv.

use std::{fs, path::Path};

use super::{base::Maker, command, venv::CONFIG};

/// What shows that the path is none, and what to do, for a path with no `pyvenv.cfg`.
pub(super) fn explain(path: &Path, maker: &Maker) -> (&'static str, String) {
    let is_venv = |folder: &Path| folder.join(CONFIG).is_file();
    // An interpreter, not resolved: a venv's is a link to one outside it.
    if let Some(venv) = path.parent().and_then(Path::parent)
        && !path.is_dir()
        && is_venv(venv)
    {
        let remedy = format!("Name the folder of the venv: {}", setting(venv));
        return ("it is a file in one", remedy);
    }
    if !path.is_dir() {
        return ("it is not a folder", put_in_its_place(path, maker));
    }
    // In it, beside it, or above it.
    let near = path.ancestors().map(|folder| folder.join(".venv"));
    if let Some(venv) = near.take(3).find(|venv| is_venv(venv) && venv != path) {
        let remedy = format!("Name the venv near it: {}", setting(&venv));
        return ("it has no pyvenv.cfg", remedy);
    }
    let is_conda = path.join("conda-meta").is_dir();
    if !is_conda && (looks_broken(path) || is_empty(path)) {
        return ("it has no pyvenv.cfg", put_in_its_place(path, maker));
    }
    let venv = path.join(".venv");
    let remedy = format!(
        "Name a venv in it, {}, and make that: {}",
        setting(&venv),
        command::make(&venv, maker)
    );
    if is_conda {
        return ("it is an environment of conda, which is not used", remedy);
    }
    ("it has no pyvenv.cfg", remedy)
}

/// For what is, or is meant to be, a venv alone.
pub(super) fn put_in_its_place(path: &Path, maker: &Maker) -> String {
    format!("Put one in its place: {}", command::replace(path, maker))
}

/// Whether the folder has what venvs have: a project's folder has other files.
fn looks_broken(path: &Path) -> bool {
    let has_python = |name: &str| path.join("bin").join(name).symlink_metadata().is_ok();
    has_python("python") || has_python("python3") || has_python("activate")
}

pub(super) fn is_empty(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

fn setting(venv: &Path) -> String {
    format!("`.venv({:?})`", venv.to_string_lossy())
}
