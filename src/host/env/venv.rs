//! A folder that is, or should be, a venv.

use std::{
    env, fmt,
    path::{Path, PathBuf, absolute},
};

/// The file that makes a folder a venv.
pub(super) const CONFIG: &str = "pyvenv.cfg";
/// The packages that a creation is about to install, in the venv.
pub(super) const IN_PROGRESS: &str = "tower-dspy.lock.part";
/// The packages that a creation has installed, in the venv.
pub(super) const INSTALLED: &str = "tower-dspy.lock";

/// What led to a venv.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The caller named it.
    Explicit,
    /// `$VIRTUAL_ENV` named it.
    VirtualEnv,
    /// It is a `.venv` in the working directory or above it.
    WorkingDir,
    /// `$PYO3_PYTHON` is in it.
    Pyo3Python,
    /// The interpreter of the build is in it.
    BuildPython,
}

/// A place that is, or should be, a venv, and what led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Venv {
    path: PathBuf,
    origin: Origin,
    /// Whether it was named relative to the working directory.
    is_relative: bool,
}

impl Venv {
    pub(super) fn new(path: &Path, origin: Origin) -> Self {
        let is_relative = path.is_relative();
        // Python wants whole paths, and a reader may not know the working directory.
        let path = absolute(path).unwrap_or_else(|_| path.to_owned());
        // Without a slash at the end: the lock file's name is made from this one.
        let path = path.components().collect();
        Self {
            path,
            origin,
            is_relative,
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The working directory, if the path was named relative to it.
    pub(super) fn relative_to(&self) -> Option<PathBuf> {
        self.is_relative.then(|| env::current_dir().ok()).flatten()
    }

    /// What led to it.
    pub fn origin(&self) -> Origin {
        self.origin
    }
}

impl fmt::Display for Venv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.path.display())?;
        match self.origin {
            Origin::Explicit | Origin::WorkingDir => Ok(()),
            Origin::VirtualEnv => f.write_str(" (named by $VIRTUAL_ENV)"),
            Origin::Pyo3Python => f.write_str(" (which $PYO3_PYTHON is in)"),
            Origin::BuildPython => f.write_str(" (which this program was built with)"),
        }
    }
}
