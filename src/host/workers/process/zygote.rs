//! Workers that are forked from a warmed process, the zygote. Python's side is `zygote.py`.
//!
//! The zygote receives the descriptors of a new worker over a socket, and reports the exit of each
//! worker: workers are its children. The kernel ends the zygote with the pool's thread, and the
//! workers with the zygote.

use std::{
    collections::HashMap, io, os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{
    connection::Connection,
    link::{ProcessLink, ProcessWatch},
};
use crate::host::workers::{numbers::WorkerId, wire::ToZygote};

/// How long the zygote may take to report an exit that SIGKILL has caused.
const REPORT_GRACE: Duration = Duration::from_secs(2);

/// A zygote. Dropping it closes the channels to all who watch its workers.
pub(in crate::host::workers) struct Zygote {
    pub(in crate::host::workers) link: ProcessLink,
    /// It has imported DSPy.
    pub(in crate::host::workers) is_warm: bool,
    pub(super) is_ending: bool,
    pub(in crate::host::workers) since: Instant,
    /// Why it was killed, if the pool did that.
    pub(in crate::host::workers) verdict: Option<String>,
    /// The senders of the process ids of workers, and of their exits.
    starting: HashMap<WorkerId, oneshot::Sender<io::Result<u32>>>,
    running: HashMap<WorkerId, oneshot::Sender<ExitStatus>>,
}

impl Zygote {
    pub(super) fn new(link: ProcessLink) -> Self {
        Self {
            link,
            is_warm: false,
            is_ending: false,
            since: Instant::now(),
            verdict: None,
            starting: HashMap::new(),
            running: HashMap::new(),
        }
    }

    /// Forks a worker.
    pub(super) fn fork(&mut self, worker: WorkerId) -> io::Result<(ForkedProcess, Connection)> {
        let (connection, descriptors) = Connection::new()?;
        let (started, has_started) = oneshot::channel();
        let (exited, has_exited) = oneshot::channel();
        self.starting.insert(worker, started);
        self.running.insert(worker, exited);
        let fork = ToZygote::Fork { worker };
        self.link.send_with(&fork, &[], Some(descriptors));
        let watch = ForkedProcess {
            started: has_started,
            exited: has_exited,
            zygote: self.link.clone(),
        };
        Ok((watch, connection))
    }

    /// A worker has been forked, or not.
    pub(in crate::host::workers) fn forked(&mut self, worker: WorkerId, pid: io::Result<u32>) {
        if pid.is_err() {
            self.running.remove(&worker);
        }
        if let Some(started) = self.starting.remove(&worker) {
            let _ = started.send(pid);
        }
    }

    /// A worker has exited with this status, or by this signal.
    pub(in crate::host::workers) fn ended(&mut self, worker: WorkerId, exited: bool, status: i32) {
        // As `wait` encodes it.
        let status = ExitStatus::from_raw(if exited { status << 8 } else { status });
        if let Some(exited) = self.running.remove(&worker) {
            let _ = exited.send(status);
        }
    }
}

/// A worker that a zygote has forked, or is about to. A zygote that does not report its start or its
/// exit in time has to end, and its workers with it.
pub(super) struct ForkedProcess {
    started: oneshot::Receiver<io::Result<u32>>,
    exited: oneshot::Receiver<ExitStatus>,
    zygote: ProcessLink,
}

impl ProcessWatch for ForkedProcess {
    async fn started(&mut self, limit: Duration) -> io::Result<u32> {
        let started = match timeout(limit, &mut self.started).await {
            Ok(started) => started,
            Err(_) => {
                self.zygote.kill();
                (&mut self.started).await
            }
        };
        started.unwrap_or_else(|_| Err(gone()))
    }

    async fn exited(&mut self) -> io::Result<ExitStatus> {
        (&mut self.exited).await.map_err(|_| gone())
    }

    async fn killed(&mut self) -> io::Result<ExitStatus> {
        if let Ok(status) = timeout(REPORT_GRACE, self.exited()).await {
            return status;
        }
        self.zygote.kill();
        self.exited().await
    }

    fn release(&self, pid: u32) {
        self.zygote.send(&ToZygote::Reap { pid }, &[]);
    }
}

fn gone() -> io::Error {
    io::Error::other("its zygote is gone")
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::host::workers::{
        process::{event::PoolEvent, launch::launch},
        settings::Workers,
    };

    #[tokio::test]
    async fn a_zygote_that_does_not_report_a_fork_in_time_forks_no_other_worker() {
        let mut settings = Workers::new(1).spawn;
        // It is no Python.
        settings.python = "true".into();
        let (child, connection) = launch(&settings).unwrap();
        let (events, _) = mpsc::channel(1);
        let link = ProcessLink::new(child, connection, &events, PoolEvent::Zygote);
        let mut zygote = Zygote::new(link);
        let (mut forked, _) = zygote.fork(WorkerId(1)).unwrap();
        let started = forked.started(Duration::ZERO);
        assert!(timeout(Duration::from_millis(20), started).await.is_err());
        assert!(zygote.link.is_killed());
    }
}
