//! The Python that a venv has to be of, and what makes it.

use std::{
    cell::OnceCell,
    env,
    path::{Path, PathBuf},
};

use super::{error::EnvError, linked::LinkedPython, path_python, venv::Venv};

/// The Python that a venv has to be of, and the uv that may make it.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) python: BasePython,
    /// The program `uv`, if it is in `PATH`.
    pub(super) uv: Option<PathBuf>,
}

/// The Python that a venv has to be of.
#[derive(Clone, Debug)]
pub(super) enum BasePython {
    /// This installation: its libpython runs in this process.
    Linked(LinkedPython),
    /// Any installation that is new enough: the venv's own interpreter is run.
    Any(Search),
}

/// The newest Python in `PATH`, searched for once, when it is needed.
#[derive(Clone, Debug, Default)]
pub(super) struct Search(OnceCell<Result<LinkedPython, path_python::NotFound>>);

/// What makes a venv in a command that a message names.
#[derive(Clone, Debug)]
pub(super) struct Maker {
    pub(super) interpreter: PathBuf,
    pub(super) has_uv: bool,
}

impl Base {
    /// This installation.
    pub(super) fn linked(linked: LinkedPython) -> Self {
        Self::with_uv_of_path(BasePython::Linked(linked))
    }

    /// Any installation.
    pub(super) fn any() -> Self {
        Self::with_uv_of_path(BasePython::Any(Search::default()))
    }

    /// The installation of the build; any, if the library was built without libpython.
    pub(super) fn of_build() -> Result<Self, EnvError> {
        if cfg!(feature = "python") {
            LinkedPython::build_time().map(Self::linked)
        } else {
            Ok(Self::any())
        }
    }

    fn with_uv_of_path(python: BasePython) -> Self {
        let path = env::var_os("PATH").unwrap_or_default();
        let uv = env::split_paths(&path)
            .map(|folder| folder.join("uv"))
            .find(|uv| uv.is_file());
        Self { python, uv }
    }

    /// The Python that is to make a venv at `venv`.
    pub(super) fn python(&self, venv: &Venv) -> Result<LinkedPython, EnvError> {
        match &self.python {
            BasePython::Linked(linked) => {
                linked.require_supported()?;
                Ok(linked.clone())
            }
            BasePython::Any(search) => search.newest().map_err(|found| EnvError::NoPython {
                found: found.to_string(),
                venv: venv.clone(),
            }),
        }
    }

    /// What a command of an error message is to run.
    pub(super) fn maker(&self) -> Maker {
        let interpreter = match &self.python {
            BasePython::Linked(linked) => linked.interpreter().to_owned(),
            BasePython::Any(search) => search.newest().map_or_else(
                // The shell says that it is not there, and uv installs it.
                |_| Path::new("python3.13").to_owned(),
                |python| python.interpreter().to_owned(),
            ),
        };
        Maker {
            interpreter,
            has_uv: self.uv.is_some(),
        }
    }
}

impl Search {
    /// A search that is over.
    #[cfg(test)]
    pub(super) fn done(found: Result<LinkedPython, path_python::NotFound>) -> Self {
        Self(OnceCell::from(found))
    }

    fn newest(&self) -> Result<LinkedPython, path_python::NotFound> {
        let search = || path_python::newest(&env::var_os("PATH").unwrap_or_default());
        self.0.get_or_init(search).clone()
    }
}
