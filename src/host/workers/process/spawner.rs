//! The interface of the two ways to start worker processes.

use std::io;

use super::link::WorkerLink;
use crate::host::workers::numbers::WorkerId;

/// A way to start worker processes. The kernel ends them with the thread that started them.
pub(in crate::host::workers) trait Spawner {
    /// Starts the process of a worker. `None` while the spawner starts a process of its own: the
    /// event `Warm` follows.
    fn spawn(&mut self, worker: WorkerId) -> io::Result<Option<WorkerLink>>;

    /// Handles the event `Warm`.
    fn warmed(&mut self) {}

    /// Handles the event `Exited`; returns the process that has exited.
    fn exited(&mut self) -> Option<ExitedSpawner> {
        None
    }

    /// The id of the spawner's own process, while it has one.
    fn pid(&self) -> Option<u32> {
        None
    }

    /// Ends the spawner's own process.
    fn stop(&mut self) {}
}

/// A spawner's own process, once it has exited.
pub(in crate::host::workers) struct ExitedSpawner {
    pub(in crate::host::workers) pid: Option<u32>,
    /// Whether it had come to fork workers.
    pub(in crate::host::workers) was_warm: bool,
    pub(in crate::host::workers) last_lines: String,
}
