//! The packages of a venv.

/// The `dspy` that this version of the library works with, as pip reads it.
pub const DSPY_REQUIREMENT: &str = "dspy>=3.4.0,<3.5";

/// The packages of a venv that [`PythonEnv::create`](crate::host::env::PythonEnv::create) makes, each with its hashes.
pub const REQUIREMENTS_LOCK: &str = include_str!("../../python/requirements.lock");
