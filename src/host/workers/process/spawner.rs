//! The interface of the two ways to start worker processes.

use std::io;

use super::{
    event::{ProcessEvent, SpawnerEvent},
    link::ProcessLink,
};
use crate::host::workers::{numbers::WorkerId, wire::FromZygote};

/// A way to start worker processes. The kernel ends them with the thread that started them.
pub(in crate::host::workers) trait Spawner {
    /// Starts the process of a worker. `None` while the spawner's own process starts or ends: the
    /// event `Warm` or `Exited` follows.
    fn spawn(&mut self, worker: WorkerId) -> io::Result<Option<ProcessLink>>;

    /// Handles an event of the spawner's own process; returns what concerns the pool.
    fn on_event(&mut self, _: ProcessEvent<FromZygote>) -> Option<SpawnerEvent> {
        None
    }

    /// The id of the spawner's own process, while it has one.
    fn pid(&self) -> Option<u32> {
        None
    }

    /// Ends the spawner's own process.
    fn stop(&mut self) {}
}
