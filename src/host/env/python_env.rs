//! A checked venv.

use std::path::{Path, PathBuf};

/// A venv that fits: made from the linked Python, with a `dspy` that is supported.
///
/// It was looked at once. Nothing keeps it as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonEnv {
    pub(super) prefix: PathBuf,
    pub(super) python: PathBuf,
    pub(super) site_packages: PathBuf,
    pub(super) python_version: String,
    pub(super) dspy_version: String,
}

impl PythonEnv {
    /// The venv's folder.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The venv's interpreter, for `PyConfig.executable` and for subprocesses.
    pub fn python(&self) -> &Path {
        &self.python
    }

    /// The folder that the venv's packages are in.
    pub fn site_packages(&self) -> &Path {
        &self.site_packages
    }

    /// The version of the Python that made the venv, as `pyvenv.cfg` has it.
    ///
    /// Its last number may be another than the linked Python's: patch releases fit each other, and
    /// an update of the system changes the one alone.
    pub fn python_version(&self) -> &str {
        &self.python_version
    }

    /// The version of `dspy`, such as `3.4.1`.
    pub fn dspy_version(&self) -> &str {
        &self.dspy_version
    }
}
