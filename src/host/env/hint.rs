//! The remedies of failures that the messages of Python, pip and the system do not name.

use std::io::{self, ErrorKind};

/// The remedy of a command that printed `output` and failed. `python` is its version, such as 3.11.
pub(super) fn of_output(output: &str, python: &str) -> Option<String> {
    let says = |text: &str| output.contains(text);
    let lacks_module = ["ensurepip", "venv"].into_iter().any(|module| {
        says(&format!("No module named {module}")) || says(&format!("No module named '{module}'"))
    });
    if lacks_module || says("ensurepip is not available") {
        return Some(format!(
            "This Python lacks the modules that make venvs. Install them, on Debian and Ubuntu by \
             `apt-get install python{python}-venv`"
        ));
    }
    if says("No space left on device") || says("os error 28") {
        return Some(
            "The disk is full: the packages take some 300 MB, and as much while they are \
             installed, in the folder of temporary files that $TMPDIR names"
                .into(),
        );
    }
    None
}

/// The remedy where a file could not be written or read.
pub(super) fn of_io(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "Name a venv in a folder that this user may write to, or make it beforehand, as by the \
             build of a container's image"
        }
        ErrorKind::StorageFull => "The disk is full: the packages take some 300 MB",
        _ => "Mend that",
    }
}
