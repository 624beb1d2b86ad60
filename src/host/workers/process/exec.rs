//! Workers that are each started by itself, and import DSPy by themselves.

use std::io;

use super::{
    event::{EventSender, PoolEvent},
    launch::{SpawnSettings, launch},
    link::ProcessLink,
    spawner::Spawner,
};
use crate::host::workers::numbers::WorkerId;

/// Starts each worker as a child process of its own.
pub(in crate::host::workers) struct ExecSpawner {
    pub(in crate::host::workers) settings: SpawnSettings,
    pub(in crate::host::workers) events: EventSender,
}

impl Spawner for ExecSpawner {
    fn spawn(&mut self, worker: WorkerId) -> io::Result<Option<ProcessLink>> {
        let of_worker = move |event| PoolEvent::Worker(worker, event);
        let link = ProcessLink::new(launch(&self.settings)?, &self.events, of_worker);
        link.send(&self.settings.hello(false), &[]);
        Ok(Some(link))
    }
}
