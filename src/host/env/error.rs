//! The errors of a Python environment, each with the command that mends it.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use super::{hint, requirements::DSPY_REQUIREMENT, venv::Venv};

/// Why there is no Python environment to run in.
///
/// Every message says what is wrong, with what, and the command that mends it. `Debug` prints the
/// message as well, so that it is readable where it comes out of `main`.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum EnvError {
    /// The library was built without knowing an interpreter.
    #[error(
        "this program was built without knowing a Python interpreter, so it cannot tell which \
         venvs fit it. Build it again with one: PYO3_PYTHON=/path/to/python3.11 cargo build"
    )]
    NoBuildPython,

    /// The Python is older than 3.11.
    #[error(
        "`{}` is Python {version}, and tower-dspy needs 3.11 or newer. Build with another one: \
         PYO3_PYTHON=/path/to/python3.11 cargo build",
        python.display()
    )]
    PythonTooOld {
        /// The interpreter that belongs to it.
        python: PathBuf,
        /// Its version.
        version: String,
    },

    /// The venv is of a Python that is older than 3.11.
    #[error(
        "the venv at {venv} is of Python {found}; worker processes run any Python from 3.11 on. \
         Make it again with a newer one: {command}"
    )]
    VenvTooOld {
        /// The venv.
        venv: Venv,
        /// The version of the Python that made it.
        found: String,
        /// What to run.
        command: String,
    },

    /// No Python that is new enough is in `PATH`.
    #[error(
        "no Python 3.11 or newer is in $PATH to make the venv at {venv} with: {found}. Install one, \
         for example by `apt-get install python3 python3-venv` or `uv python install 3.13 --default`"
    )]
    NoPython {
        /// The venv that was to be made.
        venv: Venv,
        /// What is in `PATH` instead.
        found: String,
    },

    /// The loader took another libpython than the one of the build.
    #[error(
        "this program was built with `{}`, but the loader took another libpython, `{}`. {remedy}",
        meant.display(),
        loaded.display()
    )]
    OtherLibpython {
        /// The library that was loaded.
        loaded: PathBuf,
        /// The library of the build.
        meant: PathBuf,
        /// What to do.
        remedy: String,
    },

    /// `PYTHONHOME` names another installation.
    #[error(
        "$PYTHONHOME is `{}`, so the interpreter would look for its standard library there and not \
         in `{}`, to which this program is linked. Unset it: unset PYTHONHOME",
        home.display(),
        linked.display()
    )]
    PythonHome {
        /// Its value.
        home: PathBuf,
        /// The linked installation.
        linked: PathBuf,
    },

    /// No venv was named, and none was come across.
    #[error(
        "no Python venv was found: $VIRTUAL_ENV is not set, and there is no `.venv` in `{}` or in \
         a folder above it. Make one: {command}\nOr let the host make it: `.create_venv(\".venv\")`",
        searched.display()
    )]
    NotFound {
        /// The folder the search began in.
        searched: PathBuf,
        /// What to run.
        command: String,
    },

    /// There is nothing at the path.
    #[error(
        "there is no venv at {venv}{}. Make one: {command}\n\
         Or let the host make it, by `.create_venv(..)` in place of `.venv(..)`",
        relative_note(relative_to.as_ref())
    )]
    Missing {
        /// The venv that was looked for.
        venv: Venv,
        /// The working directory, if the path was named relative to it.
        relative_to: Option<PathBuf>,
        /// What to run.
        command: String,
    },

    /// There is something at the path, but not a venv.
    #[error("{venv} is not a venv: {reason}. {remedy}")]
    NotAVenv {
        /// The path that was looked at.
        venv: Venv,
        /// What shows that it is not one.
        reason: String,
        /// What to do.
        remedy: String,
    },

    /// The venv's creation was interrupted, or is still under way.
    #[error(
        "the venv at {venv} is not finished: its creation was interrupted, or is still under way. \
         If nothing is making it now, make it again: {command}"
    )]
    Unfinished {
        /// The venv.
        venv: Venv,
        /// What to run.
        command: String,
    },

    /// The venv was made by a Python of another version.
    #[error(
        "the venv at {venv} was made by Python {found}, but this program is linked to Python \
         {linked}, and modules of one cannot be loaded by the other. Make it again: {command}"
    )]
    OtherVersion {
        /// The venv.
        venv: Venv,
        /// The version of the Python that made it.
        found: String,
        /// The version that is linked.
        linked: String,
        /// What to run.
        command: String,
    },

    /// The venv was made by another installation of the same version.
    #[error(
        "the venv at {venv} was made by the Python in `{}`, but this program is linked to the one \
         in `{}`, and modules of one cannot be loaded by the other even though both are of the \
         same version. Make it again: {command}",
        home.display(),
        linked.display()
    )]
    OtherInstallation {
        /// The venv.
        venv: Venv,
        /// The folder of the interpreter that made it.
        home: PathBuf,
        /// The linked installation.
        linked: PathBuf,
        /// What to run.
        command: String,
    },

    /// The venv's interpreter is gone, or leads to one that is gone.
    #[error(
        "the venv at {venv} has lost its interpreter `{}`{}. Make it again: {command}",
        python.display(),
        link_note(python)
    )]
    NoInterpreter {
        /// The venv.
        venv: Venv,
        /// Where its interpreter should be.
        python: PathBuf,
        /// What to run.
        command: String,
    },

    /// `dspy` is not installed in the venv.
    #[error("dspy is not installed in the venv at {venv}{}. Install it: {command}", outside_note(outside.as_ref()))]
    DspyMissing {
        /// The venv.
        venv: Venv,
        /// Where it is instead: in the Python that made the venv, which the venv does not look at.
        outside: Option<PathBuf>,
        /// What to run.
        command: String,
    },

    /// The `dspy` in the venv is too old or too new.
    #[error(
        "the venv at {venv} has dspy {found}, and this version of tower-dspy works with \
         `{DSPY_REQUIREMENT}`. Install that: {command}"
    )]
    DspyUnsupported {
        /// The venv.
        venv: Venv,
        /// The version that is installed.
        found: String,
        /// What to run.
        command: String,
    },

    /// A command that makes the venv failed.
    #[error(
        "could not make the venv at `{}`: {step} {reason}. To see all that it says, run it \
         by hand: {command}\nIts last lines:\n{output}",
        path.display()
    )]
    CreateFailed {
        /// Where the venv was to be.
        path: PathBuf,
        /// Which command it was: `python -m venv` or `pip install`.
        step: &'static str,
        /// How it ended, and what mends that if it is known.
        reason: String,
        /// The last lines that it printed.
        output: String,
        /// What to run.
        command: String,
    },

    /// The lock file that keeps two creations apart could not be used.
    #[error(
        "could not lock `{}`, which keeps others from making the same venv ({source}). {}. Then \
         the venv can also be made by hand: {command}",
        lock.display(),
        hint::of_io(source)
    )]
    Lock {
        /// The lock file.
        lock: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to run.
        command: String,
    },

    /// A file or folder could not be read or written.
    #[error(
        "could not {action} `{}` ({source}). {}. Then run: {command}",
        path.display(),
        hint::of_io(source)
    )]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to run.
        command: String,
    },
}

impl fmt::Debug for EnvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn relative_note(working_dir: Option<&PathBuf>) -> String {
    working_dir.map_or_else(String::new, |folder| {
        format!(
            " (its path is relative to the working directory `{}`)",
            folder.display()
        )
    })
}

fn outside_note(outside: Option<&PathBuf>) -> String {
    outside.map_or_else(String::new, |folder| {
        format!(
            ": it is in `{}`, with the Python that made the venv, which the venv does not look at",
            folder.display()
        )
    })
}

fn link_note(python: &Path) -> String {
    fs::read_link(python).map_or_else(
        |_| String::new(),
        |target| {
            format!(
                ", a link to `{}`, which is not on this machine",
                target.display()
            )
        },
    )
}
