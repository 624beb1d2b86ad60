//! The venv that a host is to use, by its settings.

use std::{io, path::PathBuf, thread};

use tokio::sync::oneshot;

#[cfg(feature = "python")]
use super::LinkedPython;
use super::{Create, EnvError, PythonEnv, command};

/// The venv that a host is to use, by its settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum VenvChoice {
    /// The one that is found.
    #[default]
    Find,
    /// This one.
    Use(PathBuf),
    /// This one, which is made if there is none.
    Create(PathBuf),
}

impl VenvChoice {
    /// The venv for the interpreter in this process.
    #[cfg(feature = "python")]
    pub(in crate::host) async fn linked(
        &self,
        linked: &LinkedPython,
    ) -> Result<PythonEnv, EnvError> {
        let linked = linked.clone();
        match self.clone() {
            Self::Find => blocking(move || PythonEnv::find(None, &linked)).await,
            Self::Use(path) => blocking(move || PythonEnv::find(Some(&path), &linked)).await,
            Self::Create(path) => create(PythonEnv::create(path).linked(linked)).await,
        }
    }

    /// The venv for Python in processes of its own.
    #[cfg(feature = "workers")]
    pub(in crate::host) async fn standalone(&self) -> Result<PythonEnv, EnvError> {
        match self.clone() {
            Self::Find => blocking(|| PythonEnv::find_standalone(None)).await,
            Self::Use(path) => blocking(move || PythonEnv::find_standalone(Some(&path))).await,
            Self::Create(path) => create(PythonEnv::create(path).standalone()).await,
        }
    }
}

async fn create(create: Create) -> Result<PythonEnv, EnvError> {
    let log = |line: &str| tracing::debug!(target: "tower_dspy", "{line}");
    create.keep_fitting().progress(log).run().await
}

/// On a thread of its own, as no runtime is needed to start a host: files are read, and a message that
/// names a Python runs those in `PATH`.
pub(crate) async fn blocking(
    find: impl FnOnce() -> Result<PythonEnv, EnvError> + Send + 'static,
) -> Result<PythonEnv, EnvError> {
    let (done, outcome) = oneshot::channel();
    let spawned = thread::Builder::new()
        .name("tower-dspy-venv".to_owned())
        .spawn(move || {
            // Fails if the caller has gone.
            let _ = done.send(find());
        });
    let failed = |source| EnvError::Io {
        action: "look for a venv from",
        path: PathBuf::from("."),
        source,
        command: command::by_hand(".venv".as_ref()),
    };
    spawned.map_err(failed)?;
    outcome
        .await
        .unwrap_or_else(|error| Err(failed(io::Error::other(error))))
}
