//! Workers that are forked from a warmed process, the zygote. Python's side is `zygote.py`.
//!
//! The zygote receives the descriptors of a new worker over a socket, and reports the exit of each
//! worker: workers are its children. The kernel ends the zygote with the pool's thread, and the
//! workers with the zygote.

use std::{
    collections::HashMap,
    io,
    os::unix::{net::UnixStream as StdStream, process::ExitStatusExt},
    process::ExitStatus,
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::{
    io::AsyncWriteExt,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf, pipe::Receiver},
    },
    process::Child,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::codec::FramedRead;

use super::{
    event::{ProcessEvent, SpawnerEvent, WorkerEvents},
    launch::{SpawnSettings, launch},
    link::{ProcessWatch, WorkerLink, exit_text},
    output::{LastLines, Pid, follow},
    spawner::{ExitedSpawner, Spawner},
    zygote_frames::{Descriptors, FromZygote, ToZygote, send_frame},
};
use crate::host::{
    core::{fault::Fault, log},
    workers::{frames, numbers::WorkerId},
};

/// How long the zygote has to exit by itself.
const END_GRACE: Duration = Duration::from_millis(200);
/// How long the zygote may take to report an exit that SIGKILL has caused.
const REPORT_GRACE: Duration = Duration::from_secs(1);

/// Forks each worker from a zygote, which it starts first.
pub(in crate::host::workers) struct ZygoteSpawner {
    settings: SpawnSettings,
    events: mpsc::Sender<ProcessEvent>,
    zygote: Option<Zygote>,
}

impl ZygoteSpawner {
    pub(in crate::host::workers) const fn new(
        settings: SpawnSettings,
        events: mpsc::Sender<ProcessEvent>,
    ) -> Self {
        Self {
            settings,
            events,
            zygote: None,
        }
    }
}

impl Spawner for ZygoteSpawner {
    fn spawn(&mut self, worker: WorkerId) -> io::Result<Option<WorkerLink>> {
        let zygote = match &self.zygote {
            // The orders are closed once it has exited; its last event is on its way.
            Some(zygote) if zygote.warm && !zygote.orders.is_closed() => zygote,
            Some(_) => return Ok(None),
            None => {
                self.zygote = Some(Zygote::start(&self.settings, &self.events)?);
                return Ok(None);
            }
        };
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, their_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        let read = Receiver::from_owned_fd;
        let pid = Pid::default();
        let stderr = follow(&pid, Some(read(stdout)?), Some(read(stderr)?));
        let forked = zygote.fork(worker, [theirs.into(), their_stdout, their_stderr]);
        let stream = UnixStream::from_std(ours)?;
        let sender = self.events.clone();
        let events = WorkerEvents { worker, sender };
        Ok(Some(WorkerLink::new(forked, stream, pid, stderr, events)))
    }

    fn warmed(&mut self) {
        if let Some(zygote) = &mut self.zygote {
            zygote.warm = true;
        }
    }

    fn exited(&mut self) -> Option<ExitedSpawner> {
        self.zygote.take().map(|zygote| ExitedSpawner {
            pid: zygote.pid,
            was_warm: zygote.warm,
            last_lines: zygote.stderr.text(),
        })
    }

    fn pid(&self) -> Option<u32> {
        self.zygote.as_ref().and_then(|zygote| zygote.pid)
    }

    fn stop(&mut self) {
        if let Some(zygote) = &self.zygote {
            let _ = zygote.orders.send(ZygoteOrder::End);
        }
    }
}

/// An order to the task of a zygote.
enum ZygoteOrder {
    Fork(WorkerId, Descriptors, ForkReplies),
    Reap(u32),
    End,
}

/// The senders of what becomes of a worker.
struct ForkReplies {
    started: Option<oneshot::Sender<Result<u32, String>>>,
    exited: oneshot::Sender<ExitStatus>,
}

/// A handle to a zygote. Dropping it ends the process, once no worker of it is left.
struct Zygote {
    pid: Option<u32>,
    /// It has imported DSPy.
    warm: bool,
    orders: mpsc::UnboundedSender<ZygoteOrder>,
    stderr: LastLines,
}

impl Zygote {
    fn start(settings: &SpawnSettings, events: &mpsc::Sender<ProcessEvent>) -> io::Result<Self> {
        let (mut child, stream) = launch(settings)?;
        let its_pid = Pid::default();
        let pid = child.id();
        pid.map(|pid| its_pid.get_or_init(|| pid));
        let stderr = follow(&its_pid, child.stdout.take(), child.stderr.take());
        let (orders, received) = mpsc::unbounded_channel();
        let hello = frames::encode(&ToZygote::Hello(settings.hello(true)), &[])?;
        let (read, write) = stream.into_split();
        let task = ZygoteTask {
            write,
            events: events.clone(),
            forks: HashMap::new(),
        };
        tokio::spawn(task.run(child, read, hello, received));
        Ok(Self {
            pid,
            warm: false,
            orders,
            stderr,
        })
    }

    /// Forks a worker that gets these descriptors.
    fn fork(&self, worker: WorkerId, descriptors: Descriptors) -> ForkedProcess {
        let (started, has_started) = oneshot::channel();
        let (exited, has_exited) = oneshot::channel();
        let started = Some(started);
        let replies = ForkReplies { started, exited };
        // An order that does not arrive is dropped, which closes the channels of its replies.
        let _ = self
            .orders
            .send(ZygoteOrder::Fork(worker, descriptors, replies));
        ForkedProcess {
            started: has_started,
            exited: has_exited,
            orders: self.orders.clone(),
        }
    }
}

/// A worker that a zygote has forked, or is about to.
struct ForkedProcess {
    started: oneshot::Receiver<Result<u32, String>>,
    exited: oneshot::Receiver<ExitStatus>,
    orders: mpsc::UnboundedSender<ZygoteOrder>,
}

impl ProcessWatch for ForkedProcess {
    async fn started(&mut self) -> io::Result<u32> {
        match (&mut self.started).await {
            Ok(started) => started.map_err(|reason| io::Error::other(format!("no fork: {reason}"))),
            Err(_) => Err(io::Error::other("its zygote is gone")),
        }
    }

    async fn exited(&mut self) -> io::Result<ExitStatus> {
        let exited = (&mut self.exited).await;
        exited.map_err(|_| io::Error::other("its zygote is gone"))
    }

    async fn killed(&mut self) -> io::Result<ExitStatus> {
        if let Ok(status) = timeout(REPORT_GRACE, self.exited()).await {
            return status;
        }
        // A zygote that does not report an exit has to end, and its workers with it.
        let _ = self.orders.send(ZygoteOrder::End);
        self.exited().await
    }

    fn release(&self, pid: u32) {
        let _ = self.orders.send(ZygoteOrder::Reap(pid));
    }
}

/// The task of a zygote. Dropping it closes the channels of all replies.
struct ZygoteTask {
    write: OwnedWriteHalf,
    events: mpsc::Sender<ProcessEvent>,
    forks: HashMap<WorkerId, ForkReplies>,
}

impl ZygoteTask {
    async fn run(
        mut self,
        mut child: Child,
        read: OwnedReadHalf,
        hello: Bytes,
        mut orders: mpsc::UnboundedReceiver<ZygoteOrder>,
    ) {
        let mut read = FramedRead::new(read, frames::codec());
        let mut sent = send_frame(&self.write, &hello, None).await;
        let status = loop {
            if sent.is_err() {
                break self.end(&mut child).await;
            }
            tokio::select! {
                status = child.wait() => break status,
                message = read.next() => match message {
                    Some(Ok(frame)) => match frames::decode(frame.freeze()) {
                        Ok((message, _)) => self.on_message(message).await,
                        Err(error) => sent = Err(io::Error::other(error)),
                    },
                    // It ends, or is to.
                    Some(Err(_)) | None => break self.end(&mut child).await,
                },
                order = orders.recv() => match order {
                    Some(ZygoteOrder::Fork(worker, descriptors, replies)) => {
                        self.forks.insert(worker, replies);
                        sent = self.send(&ToZygote::Fork { worker }, Some(&descriptors)).await;
                    }
                    Some(ZygoteOrder::Reap(pid)) => {
                        sent = self.send(&ToZygote::Reap { pid }, None).await;
                    }
                    Some(ZygoteOrder::End) | None => break self.end(&mut child).await,
                },
            }
        };
        let events = self.events.clone();
        // Nothing is forked any more, and the exits of its workers are known: they end with it.
        drop((self, orders));
        let exited = SpawnerEvent::Exited(exit_text(status));
        let _ = events.send(ProcessEvent::Spawner(exited)).await;
    }

    /// Ends the zygote, which exits by itself when its socket is closed.
    async fn end(&mut self, child: &mut Child) -> io::Result<ExitStatus> {
        // Fails if it has exited.
        let _ = self.write.shutdown().await;
        if let Ok(status) = timeout(END_GRACE, child.wait()).await {
            return status;
        }
        child.start_kill()?;
        child.wait().await
    }

    async fn on_message(&mut self, message: FromZygote) {
        let event = match message {
            FromZygote::Warm { weaker } => SpawnerEvent::Warm(weaker),
            FromZygote::CannotFork { reason } => SpawnerEvent::CannotFork(reason),
            FromZygote::Unusable { fault } => SpawnerEvent::Unusable(Fault::read(&fault)),
            FromZygote::Log {
                level,
                logger,
                message,
            } => return log::forward(level, &logger, &message),
            FromZygote::Forked { worker, pid } => return self.forked(worker, Ok(pid)),
            FromZygote::NotForked { worker, reason } => {
                self.forked(worker, Err(reason));
                self.forks.remove(&worker);
                return;
            }
            FromZygote::Ended {
                worker,
                exited,
                status,
            } => {
                // As `wait` encodes it.
                let status = ExitStatus::from_raw(if exited { status << 8 } else { status });
                if let Some(replies) = self.forks.remove(&worker) {
                    let _ = replies.exited.send(status);
                }
                return;
            }
        };
        let _ = self.events.send(ProcessEvent::Spawner(event)).await;
    }

    fn forked(&mut self, worker: WorkerId, started: Result<u32, String>) {
        let replies = self.forks.get_mut(&worker);
        if let Some(reply) = replies.and_then(|replies| replies.started.take()) {
            let _ = reply.send(started);
        }
    }

    async fn send(&self, message: &ToZygote<'_>, with: Option<&Descriptors>) -> io::Result<()> {
        send_frame(&self.write, &frames::encode(message, &[])?, with).await
    }
}
