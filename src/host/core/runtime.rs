//! The runtime that carries LM calls.
//!
//! It is the process's own: connections of the pool outlive the runtime of any caller, such as
//! that of one test among many, and a program's LM calls go on while a caller's runtime is busy.

use std::{io, sync::OnceLock};

use tokio::runtime::{Builder, Handle, Runtime};

/// The runtime's handle; it is made at the first use.
pub(crate) fn handle() -> Result<&'static Handle, String> {
    static RUNTIME: OnceLock<io::Result<Runtime>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("tower-dspy-lm")
            .enable_all()
            .build()
    });
    match runtime {
        Ok(runtime) => Ok(runtime.handle()),
        Err(error) => Err(format!("the runtime for LM calls did not start: {error}")),
    }
}
