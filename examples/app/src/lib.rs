//! A service that answers questions by the DSPy program in `programs/qa.py`.
//!
//! - [`config`]: what `config.toml` says
//! - [`qa`]: the program's inputs and outputs, and the limits around it
//! - [`routes`]: how clients ask
//! - [`server`]: the host, the program and the routes together

pub mod config;
pub mod qa;
pub mod routes;
pub mod server;
