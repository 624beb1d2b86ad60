//! Workers that are each started by itself, and import DSPy by themselves.

use std::{io, process::ExitStatus};

use tokio::{process::Child, sync::mpsc};

use super::{
    event::{ProcessEvent, WorkerEvents},
    launch::{SpawnSettings, launch},
    link::{ProcessWatch, WorkerLink},
    output::{Pid, follow},
    spawner::Spawner,
};
use crate::host::workers::{numbers::WorkerId, wire::ToWorker};

/// Starts each worker as a child process of its own.
pub(in crate::host::workers) struct ExecSpawner {
    settings: SpawnSettings,
    events: mpsc::Sender<ProcessEvent>,
}

impl ExecSpawner {
    pub(in crate::host::workers) const fn new(
        settings: SpawnSettings,
        events: mpsc::Sender<ProcessEvent>,
    ) -> Self {
        Self { settings, events }
    }
}

impl Spawner for ExecSpawner {
    fn spawn(&mut self, worker: WorkerId) -> io::Result<Option<WorkerLink>> {
        let (mut child, stream) = launch(&self.settings)?;
        let pid = Pid::default();
        let stderr = follow(&pid, child.stdout.take(), child.stderr.take());
        let sender = self.events.clone();
        let link = WorkerLink::new(child, stream, pid, stderr, WorkerEvents { worker, sender });
        link.send(&ToWorker::Hello(self.settings.hello(false)), &[]);
        Ok(Some(link))
    }
}

impl ProcessWatch for Child {
    async fn started(&mut self) -> io::Result<u32> {
        let id = self.id();
        id.ok_or_else(|| io::Error::other("it ended at once"))
    }

    async fn exited(&mut self) -> io::Result<ExitStatus> {
        self.wait().await
    }

    async fn killed(&mut self) -> io::Result<ExitStatus> {
        self.wait().await
    }

    fn release(&self, _: u32) {}
}
