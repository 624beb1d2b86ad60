//! The host of Python programs: the interpreter in this process, or worker processes.
//!
//! Both run the same runner, `src/python/tower_dspy/runner.py`, and a service cannot tell them
//! apart. Features `python` and `workers` select them.
//!
//! In this process, one thread owns the interpreter and runs an asyncio loop. All other threads push
//! commands to a queue and get owned values back, so no tokio thread ever waits for the GIL and no
//! Python object leaves Python's threads. Async programs run on that loop, sync ones on Python
//! threads that [`Embedded`] bounds. Another thread monitors the loop, for [`Health`](crate::Health).
//!
//! | module | what it has |
//! |---|---|
//! | `core` | what both share: queue, counters, registry, calls, exchanges, health |
//! | `embedded` | the interpreter in this process, by PyO3 |
//! | `workers` | the pool of worker processes |
//! | `gil_holder` | what names the holder of the GIL, of this process or a worker; feature `py-spy` |
//! | [`mod@env`] | the venv: found, checked, made |
//!
//! What ends with a call, and what counts as in flight until it ends by itself: [`guide::what_stops`].
//!
//! [`guide::what_stops`]: crate::guide::what_stops

pub(crate) mod core;
#[cfg(feature = "python")]
mod embedded;
pub mod env;
#[cfg(feature = "py-spy")]
mod gil_holder;
pub(crate) mod handle;
mod sources;
#[cfg(feature = "python")]
mod start_embedded;
pub(crate) mod start_error;
#[cfg(feature = "workers")]
mod start_workers;
#[cfg(feature = "pyo3-async-runtimes")]
mod task_locals;
#[cfg(feature = "workers")]
pub(crate) mod workers;

pub(crate) use self::handle::Host;
#[cfg(feature = "python")]
pub use embedded::Embedded;
#[cfg(feature = "pyo3-async-runtimes")]
pub use task_locals::NoLoop;
