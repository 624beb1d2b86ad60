//! The venv that a host is to use, by its settings.

use std::path::PathBuf;

#[cfg(feature = "python")]
use super::LinkedPython;
use super::{Create, EnvError, PythonEnv};

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
        match self {
            Self::Find => PythonEnv::find(None, linked),
            Self::Use(path) => PythonEnv::find(Some(path), linked),
            Self::Create(path) => create(PythonEnv::create(path).linked(linked.clone())).await,
        }
    }

    /// The venv for Python in processes of its own.
    #[cfg(feature = "workers")]
    pub(in crate::host) async fn standalone(&self) -> Result<PythonEnv, EnvError> {
        let path = match self {
            Self::Find => None,
            Self::Use(path) => Some(path.clone()),
            Self::Create(path) => return create(PythonEnv::create(path).standalone()).await,
        };
        PythonEnv::find_standalone(path.as_deref())
    }
}

async fn create(create: Create) -> Result<PythonEnv, EnvError> {
    let log = |line: &str| tracing::info!(target: "tower_dspy", "{line}");
    create.progress(log).run().await
}
