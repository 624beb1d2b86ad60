//! The launch of a Python process, a worker or a zygote.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    path::PathBuf,
    process::Stdio,
};

use serde_json::{Map, Value};
use tokio::{
    net::UnixStream,
    process::{Child, Command},
};

use crate::{
    host::{
        sources::{BOOTSTRAP, MODULES},
        workers::handshake::Hello,
    },
    lm::{PLACEHOLDER, key_variables},
};

/// The first code that the process runs.
const LAUNCH: &str = include_str!("../../../python/tower_dspy/worker_main.py");

/// The settings of worker processes.
#[derive(Clone, Debug)]
pub(in crate::host::workers) struct SpawnSettings {
    pub(in crate::host::workers) python: PathBuf,
    pub(in crate::host::workers) python_path: Vec<PathBuf>,
    pub(in crate::host::workers) sync_threads: usize,
    /// Variables with providers' keys that workers inherit.
    pub(in crate::host::workers) passed_keys: Vec<String>,
    pub(in crate::host::workers) memory_limit: Option<u64>,
}

impl SpawnSettings {
    pub(super) fn hello(&self, zygote: bool) -> Hello<'_> {
        Hello {
            zygote,
            bootstrap: BOOTSTRAP,
            modules: modules(),
            python_path: &self.python_path,
            sync_threads: self.sync_threads,
            memory_limit: self.memory_limit,
            parent: std::process::id(),
        }
    }
}

/// Starts a process, and the socket to it. Its first frame has to be a `hello`.
///
/// The kernel ends the process when the calling thread ends.
pub(super) fn launch(settings: &SpawnSettings) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = StdStream::pair()?;
    ours.set_nonblocking(true)?;
    let child = command(settings, theirs.into()).spawn()?;
    Ok((child, UnixStream::from_std(ours)?))
}

fn command(settings: &SpawnSettings, socket: OwnedFd) -> Command {
    let mut command = Command::new(&settings.python);
    command
        // -P: neither the working directory nor a folder of ours comes before the venv.
        .args(["-P", "-c", LAUNCH])
        // Descriptors other than these three are closed on exec, and whatever is not by worker_main.py.
        .stdin(Stdio::from(socket))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Of its own: what a terminal sends on Ctrl-C is the host's to decide about.
        .process_group(0)
        .kill_on_drop(true);
    // The keys of LMs stay with the host, which puts them into the requests.
    let passed = |name: &str| settings.passed_keys.iter().any(|passed| passed == name);
    for variable in key_variables().filter(|name| !passed(name)) {
        if std::env::var_os(variable).is_some_and(|key| !key.is_empty()) {
            // For what a program makes itself: the host has a key for the address that it asks.
            command.env(variable, PLACEHOLDER);
        } else {
            command.env_remove(variable);
        }
    }
    command
}

fn modules() -> Map<String, Value> {
    MODULES
        .iter()
        .map(|(name, source)| ((*name).to_owned(), (*source).into()))
        .collect()
}
