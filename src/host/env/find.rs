//! The search for a venv: the order of the places.

use std::{
    env,
    path::{Path, PathBuf},
};

use super::{
    base::Base,
    check, command,
    error::EnvError,
    python_env::PythonEnv,
    venv::{CONFIG, Origin, Venv},
};

/// What in a process's surroundings says which venv it is to use.
///
/// An argument rather than a read of the process's environment, so that a test can describe
/// its own.
#[derive(Default)]
pub(super) struct Surroundings {
    /// `$VIRTUAL_ENV`, which an activated venv sets.
    pub(super) virtual_env: Option<PathBuf>,
    /// The working directory: a `.venv` is looked for in it and in the folders above it.
    pub(super) working_dir: Option<PathBuf>,
    /// `$PYO3_PYTHON`, an interpreter.
    pub(super) pyo3_python: Option<PathBuf>,
    /// The interpreter of the build.
    pub(super) build_python: Option<PathBuf>,
}

impl Surroundings {
    /// The surroundings of this process, as they are now.
    pub(super) fn of_process() -> Self {
        let set = |name| {
            env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        Self {
            virtual_env: set("VIRTUAL_ENV"),
            working_dir: env::current_dir().ok(),
            pyo3_python: set("PYO3_PYTHON"),
            build_python: option_env!("TOWER_DSPY_BUILD_PYTHON").map(PathBuf::from),
        }
    }
}

/// The venv to use, of this Python.
pub(super) fn find(
    explicit: Option<&Path>,
    around: &Surroundings,
    base: &Base,
) -> Result<PythonEnv, EnvError> {
    let check = |venv: &Venv| check::check(venv, base);
    // A venv that was named is the one to use: another in its place would be a surprise.
    if let Some(path) = explicit {
        return check(&Venv::new(path, Origin::Explicit));
    }
    if let Some(path) = &around.virtual_env {
        return check(&Venv::new(path, Origin::VirtualEnv));
    }

    let mut first_misfit = None;
    for venv in come_across(around) {
        match check(&venv) {
            Ok(env) => return Ok(env),
            Err(misfit) => {
                first_misfit.get_or_insert(misfit);
            }
        }
    }
    Err(first_misfit.unwrap_or_else(|| {
        let searched = around.working_dir.clone().unwrap_or_else(|| ".".into());
        let venv = Venv::new(&searched.join(".venv"), Origin::WorkingDir);
        EnvError::NotFound {
            command: command::make(venv.path(), &base.maker()),
            searched,
        }
    }))
}

/// The venvs that were not named. What is no venv at all is left out, such as a `.venv` file of
/// another tool.
fn come_across(around: &Surroundings) -> impl Iterator<Item = Venv> {
    let above = around
        .working_dir
        .iter()
        .flat_map(|dir| dir.ancestors())
        .map(|dir| Venv::new(&dir.join(".venv"), Origin::WorkingDir));
    let holding = |python: &Option<PathBuf>, origin| {
        // Not resolved: a venv's interpreter is a link to one outside it.
        let venv = python.as_deref()?.parent()?.parent()?;
        Some(Venv::new(venv, origin))
    };
    above
        .chain(holding(&around.pyo3_python, Origin::Pyo3Python))
        .chain(holding(&around.build_python, Origin::BuildPython))
        .filter(|venv| venv.path().join(CONFIG).is_file())
}
