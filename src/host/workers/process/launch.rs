//! The launch of a Python process, a worker or a zygote.

use std::{collections::BTreeMap, io, path::PathBuf, time::Duration};

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::connection::{Connection, Descriptors};
use crate::{
    host::{
        core::log,
        env::library_path,
        sources::{BOOTSTRAP, MODULES},
        start_error::StartError,
    },
    lm::{KEY_VARIABLES, PLACEHOLDER},
};

/// The first code that the process runs.
const LAUNCH: &str = include_str!("../../../python/tower_dspy/worker_main.py");

/// The settings of worker processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::host::workers) struct SpawnSettings {
    pub(in crate::host::workers) python: PathBuf,
    pub(in crate::host::workers) python_path: Vec<PathBuf>,
    /// Searched after all else, if there is no `python_path`. Known at the start.
    pub(in crate::host::workers) working_dir: Option<PathBuf>,
    pub(in crate::host::workers) sync_threads: usize,
    /// Variables with providers' keys that workers inherit.
    pub(in crate::host::workers) passed_keys: Vec<String>,
    pub(in crate::host::workers) memory_limit: Option<u64>,
    /// Of the loading of one program.
    pub(in crate::host::workers) load_limit: Duration,
}

impl SpawnSettings {
    /// Refuses folders that the message to a process cannot name.
    pub(in crate::host::workers) fn require_utf8(&self) -> Result<(), StartError> {
        let mut folders = self.python_path.iter().chain(&self.working_dir);
        match folders.find(|folder| folder.to_str().is_none()) {
            None => Ok(()),
            Some(folder) => Err(StartError::interpreter(format_args!(
                "the name of the folder `{}`, in which programs are looked for, is not UTF-8; name \
                 another one by `python_path`",
                folder.display()
            ))),
        }
    }

    /// The first message to a process: what it needs to become a worker, or a zygote.
    pub(super) fn hello(&self, zygote: bool) -> Value {
        let modules: BTreeMap<_, _> = MODULES.iter().copied().collect();
        json!({"hello": {
            "zygote": zygote,
            "bootstrap": BOOTSTRAP,
            "modules": modules,
            "python_path": self.python_path,
            "working_dir": self.working_dir,
            "passed_keys": self.passed_keys,
            "sync_threads": self.sync_threads,
            // In bytes, of each worker.
            "memory_limit": self.memory_limit,
            // In seconds.
            "load_limit": self.load_limit.as_secs_f64(),
            "parent": std::process::id(),
            // As it is now: processes that run are not told of a change.
            "debug_log": log::is_debugged(),
        }})
    }
}

/// Starts a process. Its first frame has to be a `hello`.
///
/// The kernel ends the process when the calling thread ends.
pub(super) fn launch(settings: &SpawnSettings) -> io::Result<(Child, Connection)> {
    let (connection, descriptors) = Connection::new()?;
    let child = command(settings, descriptors).spawn()?;
    child.id().map(|id| connection.pid.set(id));
    Ok((child, connection))
}

fn command(settings: &SpawnSettings, [socket, stdout, stderr]: Descriptors) -> Command {
    let mut command = Command::new(&settings.python);
    command
        // -P: the working directory is not put before the venv on the path.
        .args(["-P", "-c", LAUNCH])
        // The standard library of another installation. A venv's Python knows its own.
        .env_remove("PYTHONHOME")
        // All other descriptors are closed: on exec, or by worker_main.py.
        .stdin(socket)
        .stdout(stdout)
        .stderr(stderr)
        // A group of its own: Ctrl-C in a terminal signals the host alone, which decides.
        .process_group(0)
        .kill_on_drop(true);
    library_path::leave_out_build_folder(command.as_std_mut());
    // The keys stay with the host, which puts them into LM requests.
    let passed = |name: &str| settings.passed_keys.iter().any(|passed| passed == name);
    for variable in KEY_VARIABLES.iter().filter(|name| !passed(name)) {
        if std::env::var_os(variable).is_some_and(|key| !key.is_empty()) {
            // An LM that a program makes itself: the host puts the key of its address there.
            command.env(variable, PLACEHOLDER);
        } else {
            command.env_remove(variable);
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    use crate::host::workers::Workers;

    #[test]
    fn a_folder_that_no_message_can_name_is_refused() {
        let folder = OsStr::from_bytes(b"/programs\xff");
        let workers = Workers::new(1).python_path("/programs").python_path(folder);
        let error = workers.spawn.require_utf8().unwrap_err().to_string();
        assert!(
            error.contains("is not UTF-8") && error.contains("`python_path`"),
            "{error}"
        );
        assert!(
            Workers::new(1)
                .python_path("/programs")
                .spawn
                .require_utf8()
                .is_ok()
        );
    }
}
