//! The venv that a host is to use, by its settings.

use std::path::PathBuf;

#[cfg(feature = "python")]
use super::LinkedPython;
use super::{Create, EnvError, PythonEnv, command, own_thread::on_own_thread};

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

/// On a thread of its own: files are read, and a message that names a Python runs those in `PATH`.
pub(crate) async fn blocking(
    find: impl FnOnce() -> Result<PythonEnv, EnvError> + Send + 'static,
) -> Result<PythonEnv, EnvError> {
    on_own_thread(find).await.unwrap_or_else(|source| {
        Err(EnvError::Io {
            action: "look for a venv from",
            path: PathBuf::from("."),
            source,
            command: command::by_hand(".venv".as_ref()),
        })
    })
}
