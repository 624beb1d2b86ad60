//! Checks of a set-up, before it serves: what is wrong, and what mends it.
//!
//! A [`Doctor`] is given the host that an application starts and the programs that it loads, with
//! their LMs. It starts the one, loads the others and looks at what is around them. It returns a
//! [`Diagnosis`], prints nothing, never panics, and sends no LM a request unless it
//! [is told to](Doctor::ask_lms).
//!
//! A command of an application, in a few lines:
//!
//! ```no_run
//! # #[cfg(feature = "workers")]
//! # mod app {
//! use std::process::ExitCode;
//!
//! use tower_dspy::{Host, Lm, doctor::Doctor};
//!
//! #[tokio::main]
//! async fn main() -> ExitCode {
//!     let host = Host::workers(2).create_venv(".venv");
//!     let lm = Lm::new("openai/gpt-4o-mini").key_env("OPENAI_API_KEY");
//!     if std::env::args().nth(1).as_deref() == Some("doctor") {
//!         let doctor = Doctor::new().workers(host).program("programs.qa:Program", lm);
//!         let diagnosis = doctor.run().await;
//!         print!("{diagnosis}");
//!         return diagnosis.into();
//!     }
//!     // Else start the host, load the program and serve.
//! #   ExitCode::SUCCESS
//! }
//! # }
//! # fn main() {}
//! ```
//!
//! ```text
//! ok       environment  no variable changes Python
//! ok       runtime      tokio, with several threads
//! wrong    DSPy         dspy is not installed in the venv at `/app/.venv`. Install it: ...
//! skipped  host         it needs DSPy
//! skipped  LM           `openai/gpt-4o-mini`: its key and address are found in Python
//! skipped  program      it is loaded by the host
//! ok       open files   ...
//!
//! 1 wrong; mend the first and look again
//! ```
//!
//! # The checks
//! In their order; each stands on those before it.
//!
//! | name | what it finds | at worst |
//! |---|---|---|
//! | `environment` | variables that change Python; for an embedded host `LD_PRELOAD` too | warning |
//! | `runtime` | no tokio runtime, or one of a single thread | wrong |
//! | `Python` | no Python to make the venv with; a build without a Python or with too old a Python; a libpython that is not that of the build | wrong |
//! | `venv` | no venv, a venv of another Python, an unfinished venv | wrong |
//! | `DSPy` | none, an unsupported version, another one than that of the venv | wrong |
//! | `host` | the start fails | wrong |
//! | `modules` | files of programs that hide a module of Python or a package | warning |
//! | `/proc` | waits of threads that cannot be ended | warning |
//! | `LM` | a name, an option, a URL, a key variable or a proxy that cannot be used | wrong |
//! | `LM key` | a placeholder, a variable that was not replaced, the key of another provider | warning |
//! | `LM address` | no TCP connection to it, or to the proxy that the environment names; a proxy before an LM on this machine | warning |
//! | `program` | it cannot be loaded | wrong |
//! | `open files` | a limit that is too low for the calls in flight | warning |
//! | `memory` | little left of the machine's, or of the container's limit | warning |
//! | `LM answer` | a key that is not accepted, a model that is not there: with [`Doctor::ask_lms`] alone | wrong |
//!
//! Some show only while a service runs, such as how long an LM takes under load; for these see
//! [`Health`](crate::Health) and the [metrics](crate::telemetry).

mod check;
mod diagnosis;
mod lms;
mod process;
mod python;
mod reach;
mod run;
mod settings;

pub use self::{
    check::{Check, CheckOutcome},
    diagnosis::Diagnosis,
    settings::Doctor,
};
