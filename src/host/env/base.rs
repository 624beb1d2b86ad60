//! The Python that a venv has to be of, and that makes it.

use std::cell::OnceCell;

use super::{error::EnvError, linked::LinkedPython, path_python, venv::Venv};

/// The Python that a venv has to be of.
#[derive(Clone, Debug)]
pub(super) enum Base {
    /// This installation: its libpython runs in this process.
    Linked(LinkedPython),
    /// Any installation that is new enough: the venv's own interpreter is run.
    Any(Search),
}

/// The newest Python in `PATH`, searched for once, when it is needed.
#[derive(Clone, Debug, Default)]
pub(super) struct Search(OnceCell<Result<LinkedPython, path_python::NotFound>>);

impl Base {
    /// Any installation.
    pub(super) fn any() -> Self {
        Self::Any(Search::default())
    }

    /// The installation of the build; any, if the library was built without libpython.
    pub(super) fn of_build() -> Result<Self, EnvError> {
        if cfg!(feature = "python") {
            LinkedPython::build_time().map(Self::Linked)
        } else {
            Ok(Self::any())
        }
    }

    /// The Python that is to make a venv at `venv`.
    pub(super) fn maker(&self, venv: &Venv) -> Result<LinkedPython, EnvError> {
        match self {
            Self::Linked(linked) => {
                linked.require_supported()?;
                Ok(linked.clone())
            }
            Self::Any(search) => search.newest().map_err(|found| EnvError::NoPython {
                found: found.to_string(),
                venv: venv.clone(),
            }),
        }
    }

    /// The Python that a command of an error message is to run.
    pub(super) fn maker_to_name(&self) -> LinkedPython {
        match self {
            Self::Linked(linked) => linked.clone(),
            // A name that the shell does not find says by itself what has to be installed.
            Self::Any(search) => search.newest().unwrap_or_else(|_| {
                LinkedPython::new("3.13.0", "/usr").with_interpreter("python3.13")
            }),
        }
    }
}

impl Search {
    fn newest(&self) -> Result<LinkedPython, path_python::NotFound> {
        let search = || path_python::newest(&std::env::var_os("PATH").unwrap_or_default());
        self.0.get_or_init(search).clone()
    }
}
