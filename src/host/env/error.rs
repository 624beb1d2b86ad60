//! The errors of a Python environment, each with the command that mends it.

use std::{io, path::PathBuf};

use super::{requirements::DSPY_REQUIREMENT, venv::Venv};

/// Why there is no Python environment to run in.
///
/// Every message says what is wrong, with what, and the command that mends it.
#[derive(Debug, thiserror::Error)]
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

    /// No venv was named, and none was come across.
    #[error(
        "no Python venv was found: $VIRTUAL_ENV is not set, and there is no `.venv` in `{}` or in \
         a folder above it. Make one: {command}",
        searched.display()
    )]
    NotFound {
        /// The folder the search began in.
        searched: PathBuf,
        /// What to run.
        command: String,
    },

    /// There is nothing at the path.
    #[error("there is no venv at {venv}. Make one: {command}")]
    Missing {
        /// The venv that was looked for.
        venv: Venv,
        /// What to run.
        command: String,
    },

    /// There is something at the path, but not a venv.
    #[error("{venv} is not a venv: {reason}. Put one in its place: {command}")]
    NotAVenv {
        /// The path that was looked at.
        venv: Venv,
        /// What shows that it is not one.
        reason: String,
        /// What to run.
        command: String,
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
    #[error("the venv at {venv} has lost its interpreter `{}`. Make it again: {command}", python.display())]
    NoInterpreter {
        /// The venv.
        venv: Venv,
        /// Where its interpreter should be.
        python: PathBuf,
        /// What to run.
        command: String,
    },

    /// `dspy` is not installed in the venv.
    #[error("dspy is not installed in the venv at {venv}. Install it: {command}")]
    DspyMissing {
        /// The venv.
        venv: Venv,
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
        "could not make the venv at `{}`: {step} {reason}. To see all that it says, run it by \
         hand: {command}\nIts last lines:\n{output}",
        path.display()
    )]
    CreateFailed {
        /// Where the venv was to be.
        path: PathBuf,
        /// Which command it was: `python -m venv` or `pip install`.
        step: &'static str,
        /// How it ended.
        reason: String,
        /// The last lines that it printed.
        output: String,
        /// What to run.
        command: String,
    },

    /// The lock file that keeps two creations apart could not be used.
    #[error(
        "could not lock `{}`, which keeps others from making the same venv ({source}). Make the \
         venv by hand: {command}",
        lock.display()
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
    #[error("could not {action} `{}` ({source}). Once that is mended, run: {command}", path.display())]
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
