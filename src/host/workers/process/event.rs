//! The events of processes, sent to the pool's thread.

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::host::{
    core::fault::Fault,
    workers::{numbers::WorkerId, wire::FromWorker},
};

/// Events that wait for the pool's thread; past that, the processes wait.
pub(in crate::host::workers) const EVENTS: usize = 1024;

/// An event of a worker process or of the spawner's own process.
pub(in crate::host::workers) enum ProcessEvent {
    Worker(WorkerId, WorkerEvent),
    Spawner(SpawnerEvent),
}

/// An event of a worker process.
pub(in crate::host::workers) enum WorkerEvent {
    /// The process exists and has an id.
    Spawned,
    Message(FromWorker, Bytes),
    /// The worker closed its socket, or sent a malformed frame: what is wrong with it.
    Broken(Option<String>),
    /// The process has exited, and how. The last event of a worker.
    Exited(String),
}

/// An event of the process that workers are forked from.
pub(in crate::host::workers) enum SpawnerEvent {
    /// It can fork workers; the parts of DSPy that are patched only in part.
    Warm(Vec<String>),
    CannotFork(String),
    /// DSPy cannot be imported.
    Unusable(Fault),
    /// The process has exited, and how. The last event of a zygote.
    Exited(String),
}

/// The sender of one worker's events.
pub(super) struct WorkerEvents {
    pub(super) worker: WorkerId,
    pub(super) sender: mpsc::Sender<ProcessEvent>,
}

impl WorkerEvents {
    /// Sends an event; false if the pool has ended.
    pub(super) async fn send(&self, event: WorkerEvent) -> bool {
        let event = ProcessEvent::Worker(self.worker, event);
        self.sender.send(event).await.is_ok()
    }
}
