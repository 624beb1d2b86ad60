//! The Python environment that programs run in: found, checked, and made on request.
//!
//! An embedded interpreter and a venv must be of one installation; its patch release may have
//! changed since. A venv made from another installation of the same Python 3.11 fails at the first
//! `import`, with a message about a missing symbol. So a venv is checked here, by reading files,
//! before any Python starts, and a misfit is an [`EnvError`] that ends with the command to run.
//!
//! ```no_run
//! use tower_dspy::host::env::{LinkedPython, PythonEnv};
//!
//! # async fn run() -> Result<(), tower_dspy::host::env::EnvError> {
//! // The venv of this process: `$VIRTUAL_ENV`, else the nearest `.venv`.
//! let env = PythonEnv::find(None, &LinkedPython::build_time()?)?;
//!
//! // Or one that is made if it is not there.
//! let env = PythonEnv::create(".venv")
//!     .progress(|line| eprintln!("{line}"))
//!     .run()
//!     .await?;
//! println!("DSPy {} in {}", env.dspy_version(), env.prefix().display());
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here links to Python, so that a process without a libpython can use it too.

mod base;
mod check;
mod choice;
mod command;
mod create;
mod dspy;
mod error;
mod find;
mod hint;
mod install;
#[cfg(feature = "python")]
pub(in crate::host) mod libpython;
pub(in crate::host) mod library_path;
mod linked;
mod not_a_venv;
mod own_thread;
mod path_python;
mod python_env;
#[cfg(feature = "python")]
pub(in crate::host) mod python_home;
mod requirements;
mod step;
#[cfg(test)]
mod tests;
mod venv;

use std::path::Path;

use base::Base;
pub(crate) use choice::{VenvChoice, blocking};
pub use create::Create;
pub use error::EnvError;
pub use linked::LinkedPython;
pub use python_env::PythonEnv;
pub use requirements::{DSPY_REQUIREMENT, REQUIREMENTS_LOCK};
pub use venv::{Origin, Venv};

impl PythonEnv {
    /// Finds this process's venv and checks it.
    ///
    /// The order is: `explicit`; `$VIRTUAL_ENV`; `.venv` in the working directory and then in the
    /// folders above it; the venv that `$PYO3_PYTHON` is in; the venv that the interpreter of
    /// the build is in.
    ///
    /// # Errors
    /// What was named, by `explicit` or `$VIRTUAL_ENV`, is never skipped: if it does not fit, the
    /// error says why. What was only come across is skipped if it does not fit; if then nothing
    /// fits, the error is about the first of these, or [`EnvError::NotFound`].
    pub fn find(explicit: Option<&Path>, linked: &LinkedPython) -> Result<Self, EnvError> {
        let base = Base::linked(linked.clone());
        find::find(explicit, &find::Surroundings::of_process(), &base)
    }

    /// Finds this process's venv, as [`find`](Self::find) does, for a Python of its own process:
    /// which installation made it does not matter.
    ///
    /// # Errors
    /// As for [`find`](Self::find).
    pub fn find_standalone(explicit: Option<&Path>) -> Result<Self, EnvError> {
        let base = Base::any();
        find::find(explicit, &find::Surroundings::of_process(), &base)
    }

    /// Checks the venv at `path`, without starting an interpreter.
    ///
    /// # Errors
    /// When it is not there, is not a venv, belongs to another Python, or has no `dspy` that is
    /// supported.
    pub fn check(path: impl AsRef<Path>, linked: &LinkedPython) -> Result<Self, EnvError> {
        let base = Base::linked(linked.clone());
        check::check(&Venv::new(path.as_ref(), Origin::Explicit), &base)
    }

    /// Makes the venv at `path`, if there is none, and installs the locked packages into it.
    ///
    /// It is made by the Python of the build; in a build without feature `python`, by the newest
    /// Python in `PATH`: see [`Create::standalone`].
    ///
    /// Nothing happens before [`Create::run`] or [`Create::run_blocking`]. A venv that is there
    /// and fits is returned as it is, so this is also the call for "make sure there is one".
    pub fn create(path: impl AsRef<Path>) -> Create {
        Create::new(path.as_ref())
    }
}
