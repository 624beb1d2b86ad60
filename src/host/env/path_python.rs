//! The newest Python in `PATH` that worker processes can run.

use std::{
    env,
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{library_path, linked::LinkedPython};

/// The newest first. `python3` is last: it may be any version.
const NAMES: [&str; 4] = ["python3.13", "python3.12", "python3.11", "python3"];

/// What build.rs asks the interpreter of the build.
const ASK: &str = "import sys; \
    print('.'.join(map(str, sys.version_info[:3]))); \
    print(sys.base_prefix); \
    print(getattr(sys, '_base_executable', None) or sys.executable)";

/// The interpreters in `PATH`, none of which can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotFound {
    /// Those that ran, with their versions.
    too_old: Vec<(PathBuf, String)>,
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.too_old.is_empty() {
            return write!(f, "none of {} is there and runs", NAMES.join(", "));
        }
        for (index, (python, version)) in self.too_old.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}`{}` is Python {version}", python.display())?;
        }
        Ok(())
    }
}

/// The newest Python in these folders. Each candidate is run, as a name in `PATH` may be a shim
/// that leads nowhere.
pub(super) fn newest(path: &OsStr) -> Result<LinkedPython, NotFound> {
    let mut too_old = Vec::new();
    for name in NAMES {
        // All of a name: the first may be a shim that does not run.
        for folder in env::split_paths(path) {
            let python = folder.join(name);
            if !python.is_file() {
                continue;
            }
            let Some(found) = ask(&python) else { continue };
            if found.require_supported().is_ok() {
                return Ok(found);
            }
            too_old.push((python, found.version().to_owned()));
        }
    }
    Err(NotFound { too_old })
}

fn ask(python: &Path) -> Option<LinkedPython> {
    let mut command = Command::new(python);
    command
        // Neither PYTHONHOME nor the working directory may change the answer.
        .args(["-I", "-c", ASK])
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    library_path::leave_out_build_folder(&mut command);
    let output = command.output().ok()?;
    let answer = String::from_utf8(output.stdout).ok()?;
    let mut lines = answer.lines();
    let (version, prefix, interpreter) = (lines.next()?, lines.next()?, lines.next()?);
    let found = LinkedPython::new(version, prefix).with_interpreter(interpreter);
    output.status.success().then_some(found)
}
