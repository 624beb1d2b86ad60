//! Workers that are forked from a warmed process, the zygote. Python's side is `zygote.py`.
//!
//! The zygote receives the descriptors of a new worker over a socket, and reports the exit of each
//! worker: workers are its children. The kernel ends the zygote with the pool's thread, and the
//! workers with the zygote.

use std::{
    collections::HashMap,
    io, mem,
    os::unix::{net::UnixStream as StdStream, process::ExitStatusExt},
    process::ExitStatus,
    time::Duration,
};

use futures_util::FutureExt;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::{
    net::{UnixStream, unix::pipe::Receiver},
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{
    event::{EventSender, PoolEvent, ProcessEvent, SpawnerEvent},
    launch::{SpawnSettings, launch},
    link::{Launched, ProcessLink, ProcessWatch},
    output::{Pid, follow},
    spawner::Spawner,
};
use crate::host::workers::{
    numbers::WorkerId,
    wire::{FromZygote, ToZygote},
};

/// How long the zygote has to exit by itself.
const END_GRACE: Duration = Duration::from_millis(200);
/// How long the zygote may take to report an exit that SIGKILL has caused.
const REPORT_GRACE: Duration = Duration::from_secs(1);

/// Forks each worker from a zygote, which it starts first.
pub(in crate::host::workers) struct ZygoteSpawner {
    settings: SpawnSettings,
    events: EventSender,
    zygote: Option<Zygote>,
}

impl ZygoteSpawner {
    pub(in crate::host::workers) const fn new(
        settings: SpawnSettings,
        events: EventSender,
    ) -> Self {
        Self {
            settings,
            events,
            zygote: None,
        }
    }
}

impl Spawner for ZygoteSpawner {
    fn spawn(&mut self, worker: WorkerId) -> io::Result<Option<ProcessLink>> {
        let Some(zygote) = &mut self.zygote else {
            let link = ProcessLink::new(launch(&self.settings)?, &self.events, PoolEvent::Zygote);
            link.send(&self.settings.hello(true), &[]);
            self.zygote = Some(Zygote {
                link,
                is_warm: false,
                is_ending: false,
                starting: HashMap::new(),
                running: HashMap::new(),
            });
            return Ok(None);
        };
        if !zygote.is_warm || zygote.link.is_killed() {
            return Ok(None);
        }
        let forked = zygote.fork(worker)?;
        let of_worker = move |event| PoolEvent::Worker(worker, event);
        Ok(Some(ProcessLink::new(forked, &self.events, of_worker)))
    }

    fn on_event(&mut self, event: ProcessEvent<FromZygote>) -> Option<SpawnerEvent> {
        let zygote = self.zygote.as_mut()?;
        match event {
            ProcessEvent::Spawned => None,
            ProcessEvent::Message(message, _) => zygote.on_message(message),
            ProcessEvent::Broken(_) => {
                zygote.link.kill();
                None
            }
            ProcessEvent::Exited(how) => {
                // Its workers end with it: dropping it tells those who watch them.
                let zygote = self.zygote.take()?;
                Some(SpawnerEvent::Exited {
                    pid: zygote.link.pid(),
                    how,
                    was_warm: zygote.is_warm,
                    last_lines: zygote.link.last_lines(),
                })
            }
        }
    }

    fn pid(&self) -> Option<u32> {
        self.zygote.as_ref()?.link.pid()
    }

    fn stop(&mut self) {
        if let Some(zygote) = &mut self.zygote
            && !mem::replace(&mut zygote.is_ending, true)
        {
            // It reaps its workers before it exits: zombies would be left to a process that may
            // not reap them.
            let link = zygote.link.clone();
            link.close();
            tokio::spawn(sleep(END_GRACE).map(move |()| link.kill()));
        }
    }
}

/// A zygote. Dropping it closes the channels to all who watch its workers.
struct Zygote {
    link: ProcessLink,
    /// It has imported DSPy.
    is_warm: bool,
    is_ending: bool,
    /// The senders of the process ids of workers, and of their exits.
    starting: HashMap<WorkerId, oneshot::Sender<io::Result<u32>>>,
    running: HashMap<WorkerId, oneshot::Sender<ExitStatus>>,
}

impl Zygote {
    /// Forks a worker.
    fn fork(&mut self, worker: WorkerId) -> io::Result<Launched<ForkedProcess>> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, their_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        let read = Receiver::from_owned_fd;
        let pid = Pid::default();
        let stderr = follow(&pid, Some(read(stdout)?), Some(read(stderr)?));
        let stream = UnixStream::from_std(ours)?;
        let (started, has_started) = oneshot::channel();
        let (exited, has_exited) = oneshot::channel();
        self.starting.insert(worker, started);
        self.running.insert(worker, exited);
        let descriptors = [theirs.into(), their_stdout, their_stderr];
        self.link
            .send_with(&ToZygote::Fork { worker }, &[], Some(descriptors));
        let watch = ForkedProcess {
            started: has_started,
            exited: has_exited,
            zygote: self.link.clone(),
        };
        Ok(Launched {
            watch,
            stream,
            pid,
            stderr,
        })
    }

    fn on_message(&mut self, message: FromZygote) -> Option<SpawnerEvent> {
        match message {
            FromZygote::Warm { weaker } => {
                self.is_warm = true;
                return Some(SpawnerEvent::Warm(weaker));
            }
            FromZygote::CannotFork { reason } => return Some(SpawnerEvent::CannotFork(reason)),
            FromZygote::Unusable { fault } => return Some(SpawnerEvent::Unusable(fault)),
            FromZygote::Log(record) => record.forward(),
            FromZygote::Forked { worker, pid } => self.started(worker, Ok(pid)),
            FromZygote::NotForked { worker, reason } => {
                let error = io::Error::other(format!("no fork: {reason}"));
                self.started(worker, Err(error));
                self.running.remove(&worker);
            }
            FromZygote::Ended {
                worker,
                exited,
                status,
            } => {
                // As `wait` encodes it.
                let status = ExitStatus::from_raw(if exited { status << 8 } else { status });
                if let Some(exited) = self.running.remove(&worker) {
                    let _ = exited.send(status);
                }
            }
        }
        None
    }

    fn started(&mut self, worker: WorkerId, pid: io::Result<u32>) {
        if let Some(started) = self.starting.remove(&worker) {
            let _ = started.send(pid);
        }
    }
}

/// A worker that a zygote has forked, or is about to. A zygote that does not report its start or its
/// exit in time has to end, and its workers with it.
struct ForkedProcess {
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
    use bytes::Bytes;
    use tokio::sync::mpsc;

    use super::*;

    /// A spawner with a zygote that is warm. Its program is no Python: the tests make up its events.
    fn warm() -> ZygoteSpawner {
        let settings = SpawnSettings {
            python: "true".into(),
            python_path: Vec::new(),
            sync_threads: 1,
            passed_keys: Vec::new(),
            memory_limit: None,
        };
        let (events, _) = mpsc::channel(1);
        let mut spawner = ZygoteSpawner::new(settings, events);
        assert!(!forks(&mut spawner), "it has started a zygote first");
        let warm = FromZygote::Warm { weaker: Vec::new() };
        spawner.on_event(ProcessEvent::Message(warm, Bytes::new()));
        assert!(forks(&mut spawner));
        spawner
    }

    fn forks(spawner: &mut ZygoteSpawner) -> bool {
        spawner.spawn(WorkerId(1)).unwrap().is_some()
    }

    #[tokio::test]
    async fn a_zygote_whose_socket_is_closed_forks_no_worker() {
        let mut spawner = warm();
        spawner.on_event(ProcessEvent::Broken(None));
        assert!(!forks(&mut spawner));
        let exited = spawner.on_event(ProcessEvent::Exited("it ended".into()));
        assert!(matches!(
            exited,
            Some(SpawnerEvent::Exited { was_warm: true, .. })
        ));
    }

    #[tokio::test]
    async fn a_zygote_that_does_not_report_a_fork_in_time_forks_no_other_worker() {
        let mut spawner = warm();
        let zygote = spawner.zygote.as_mut().unwrap();
        let mut forked = zygote.fork(WorkerId(2)).unwrap();
        let started = forked.watch.started(Duration::ZERO);
        assert!(timeout(Duration::from_millis(20), started).await.is_err());
        assert!(!forks(&mut spawner));
    }
}
