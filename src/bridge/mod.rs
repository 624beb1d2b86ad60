//! The way into Python: the venv it runs in, the host that owns it.

pub mod env;
