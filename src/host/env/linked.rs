//! The Python installation that the process is linked to, or was built with.

use std::path::{Path, PathBuf};

use super::error::EnvError;

/// The oldest Python that DSPy's async path and the runner work on.
const OLDEST: [u32; 3] = [3, 11, 0];

/// The Python installation that a venv has to belong to, or that makes it: for an embedded host the
/// linked one, for worker processes any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkedPython {
    version: String,
    base_prefix: PathBuf,
    interpreter: PathBuf,
}

impl LinkedPython {
    /// Describes the installation at `base_prefix` (Python's `sys.base_prefix`).
    ///
    /// `version` may be what `Py_GetVersion` returns, such as `3.11.7 (main, ...)`: only the
    /// numbers are kept.
    pub fn new(version: &str, base_prefix: impl Into<PathBuf>) -> Self {
        let version = whole_version(version);
        let base_prefix = base_prefix.into();
        let interpreter = base_prefix
            .join("bin")
            .join(format!("python{}", short_version(&version)));
        Self {
            version,
            base_prefix,
            interpreter,
        }
    }

    /// The installation that this library was built with.
    ///
    /// # Errors
    /// [`EnvError::NoBuildPython`] when the build knew no interpreter, and
    /// [`EnvError::PythonTooOld`].
    pub fn build_time() -> Result<Self, EnvError> {
        let (Some(version), Some(prefix), Some(interpreter)) = (
            option_env!("TOWER_DSPY_BUILD_PYTHON_VERSION"),
            option_env!("TOWER_DSPY_BUILD_PYTHON_PREFIX"),
            option_env!("TOWER_DSPY_BUILD_PYTHON_BASE"),
        ) else {
            return Err(EnvError::NoBuildPython);
        };
        let linked = Self::new(version, prefix).with_interpreter(interpreter);
        linked.require_supported()?;
        Ok(linked)
    }

    /// Replaces the version, by that of the libpython which was in fact loaded.
    ///
    /// The loader takes any libpython of the right name, so it need not be the one of the build.
    #[must_use]
    pub fn with_version(mut self, version: &str) -> Self {
        self.version = whole_version(version);
        self
    }

    /// Names the interpreter that makes venvs, where it is not `bin/pythonX.Y`.
    #[must_use]
    pub fn with_interpreter(mut self, interpreter: impl Into<PathBuf>) -> Self {
        self.interpreter = interpreter.into();
        self
    }

    /// The whole version, such as `3.11.7`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The version that names folders and libraries, such as `3.11`.
    pub fn short_version(&self) -> &str {
        short_version(&self.version)
    }

    /// The folder that Python is installed in.
    pub fn base_prefix(&self) -> &Path {
        &self.base_prefix
    }

    /// The interpreter that makes venvs.
    pub fn interpreter(&self) -> &Path {
        &self.interpreter
    }

    pub(super) fn require_supported(&self) -> Result<(), EnvError> {
        if numbers(&self.version) < Some(OLDEST) {
            return Err(EnvError::PythonTooOld {
                python: self.interpreter.clone(),
                version: self.version.clone(),
            });
        }
        Ok(())
    }
}

/// The first three numbers of a version: `3.11.7.final.0` and `3.14.0rc1+` are written by some
/// makers of venvs, `3.11.7 (main, ...)` by Python itself.
pub(super) fn numbers(version: &str) -> Option<[u32; 3]> {
    let mut parts = version.trim().split('.').map(|part| {
        let end = part
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(part.len());
        part[..end].parse().ok()
    });
    let mut next = || parts.next().flatten();
    Some([next()?, next()?, next().unwrap_or(0)])
}

fn whole_version(version: &str) -> String {
    match numbers(version) {
        Some([major, minor, patch]) => format!("{major}.{minor}.{patch}"),
        None => version.trim().to_owned(),
    }
}

fn short_version(version: &str) -> &str {
    version.rsplit_once('.').map_or(version, |(short, _)| short)
}
