//! Access to the host's loop for a user's own PyO3 code.

use std::sync::OnceLock;

use pyo3_async_runtimes::TaskLocals;

use super::handle::Host;

/// The loop of this process; set before the start of its host returns.
pub(super) static LOCALS: OnceLock<TaskLocals> = OnceLock::new();

impl Host {
    /// The host's asyncio loop, for PyO3 code of your own that uses [`pyo3_async_runtimes`]: an
    /// awaitable becomes a Rust future with `into_future_with_locals`, a Rust future an awaitable
    /// with `tokio::future_into_py_with_locals`, both on the loop that the programs run on.
    ///
    /// ```no_run
    /// use pyo3::prelude::*;
    /// use pyo3_async_runtimes::into_future_with_locals;
    /// use tower_dspy::Host;
    ///
    /// # async fn example(host: Host) -> Result<(), Box<dyn std::error::Error>> {
    /// let locals = host.task_locals()?;
    /// // The GIL is waited for on a thread that may wait.
    /// let rows = tokio::task::spawn_blocking(move || {
    ///     Python::attach(|py| {
    ///         let rows = py.import("my_pkg.db")?.call_method0("rows")?;
    ///         into_future_with_locals(&locals, rows)
    ///     })
    /// });
    /// let rows: Py<PyAny> = rows.await??.await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # What is yours then
    /// - **The GIL.** Nothing else of this crate takes it on a tokio thread, or holds a Python
    ///   object on one. Code that waits for it stops a worker of the runtime while Python code
    ///   runs: use `spawn_blocking`, and hold it briefly, as the programs wait for it meanwhile.
    /// - **The end.** What runs this way belongs to no call: no limit, no cancel and no
    ///   [`HostStats`](crate::HostStats) know of it, and dropping the Rust future does not stop it.
    ///   A [`Tool`](crate::Tool) or a [`Function`](crate::service::Function) does better.
    /// - **The runtime.** Rust futures that Python awaits run on the tokio runtime of
    ///   `pyo3_async_runtimes`, made when first needed; `pyo3_async_runtimes::tokio::init` or
    ///   `init_with_runtime`, called before, gives it another.
    ///
    /// # Errors
    /// If the host has stopped: its loop runs no more, and whatever waits for it would for ever. If
    /// its loops are those of worker processes.
    pub fn task_locals(&self) -> Result<TaskLocals, NoLoop> {
        if let Some(reason) = self.closed() {
            return Err(NoLoop(format!("the Python host is gone ({reason})")));
        }
        if !self.is_embedded() {
            return Err(NoLoop(
                "the host's loops are in worker processes; a loop in this one is that of \
                 `Host::embedded()`"
                    .into(),
            ));
        }
        let locals = LOCALS.get().cloned();
        locals.ok_or_else(|| NoLoop("the Python host has not started".into()))
    }
}

/// The error of a host that has no loop in this process.
///
/// It is no `PyErr`, which needs an interpreter to be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoLoop(String);
