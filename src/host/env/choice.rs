//! The venv that a host is to use, by its settings.

use std::path::PathBuf;
#[cfg(feature = "workers")]
use std::thread;

#[cfg(feature = "workers")]
use tokio::sync::oneshot;

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
        on_thread(move || PythonEnv::find_standalone(path.as_deref())).await
    }
}

async fn create(create: Create) -> Result<PythonEnv, EnvError> {
    let log = |line: &str| tracing::info!(target: "tower_dspy", "{line}");
    create.progress(log).run().await
}

/// On a thread of its own: a message that names a Python runs those in `PATH`.
#[cfg(feature = "workers")]
async fn on_thread(
    find: impl FnOnce() -> Result<PythonEnv, EnvError> + Clone + Send + 'static,
) -> Result<PythonEnv, EnvError> {
    let (done, outcome) = oneshot::channel();
    let on_thread = find.clone();
    let spawned = thread::Builder::new()
        .name("tower-dspy-venv".to_owned())
        .spawn(move || {
            // Fails if the caller has gone.
            let _ = done.send(on_thread());
        });
    match spawned {
        Ok(_) => outcome.await.unwrap_or_else(|_| find()),
        Err(_) => find(),
    }
}
