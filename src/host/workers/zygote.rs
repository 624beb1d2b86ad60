//! The process that workers are forked from; Python's side is `zygote.py`.
//!
//! It is told over a socket, with the descriptors that the new worker is to have, and tells of the
//! end of each: they are its children, not ours. The kernel ends it with the pool's thread, and
//! them with it.

use std::{
    collections::HashMap,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    process::ExitStatus,
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::Child,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::codec::FramedRead;

use super::{
    Told,
    launch::{Settings, launch},
    output::{LastLines, Pid, follow},
    process::said_of,
    wire::{self, Hello},
};
use crate::host::core::{fault::Fault, log};

/// How long it has to end when it is not needed any more.
const END_GRACE: Duration = Duration::from_millis(200);
/// A worker's socket, stdout and stderr.
const DESCRIPTORS: usize = 3;

/// What a host says to it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum ToZygote<'a> {
    Hello(Hello<'a>),
    Fork { worker: u64 },
    Reap { pid: u32 },
}

/// What it says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FromZygote {
    Warm {
        weaker: Vec<String>,
    },
    CannotFork {
        reason: String,
    },
    Unusable {
        fault: Value,
    },
    Forked {
        worker: u64,
        pid: u32,
    },
    NotForked {
        worker: u64,
        reason: String,
    },
    /// By an exit with this status, or by this signal.
    Ended {
        worker: u64,
        exited: bool,
        status: i32,
    },
    Log {
        level: u32,
        logger: String,
        message: String,
    },
}

/// What the pool wants of it.
enum Order {
    Fork(u64, [OwnedFd; DESCRIPTORS], Birth),
    Reap(u32),
    /// It is no good any more.
    End,
}

/// Who waits to hear of a worker.
struct Birth {
    begun: Option<oneshot::Sender<Result<u32, String>>>,
    ended: oneshot::Sender<ExitStatus>,
}

/// A zygote, as the pool knows it. Dropping it ends the process, once no worker of it is left.
pub(super) struct Zygote {
    pub(super) id: u64,
    pub(super) pid: Option<u32>,
    /// It has imported DSPy.
    pub(super) warm: bool,
    orders: mpsc::UnboundedSender<Order>,
    stderr: LastLines,
}

impl Zygote {
    /// Starts one; what is heard of it goes to `tell` with `id`.
    pub(super) fn start(
        settings: &Settings,
        id: u64,
        tell: &mpsc::Sender<(u64, Told)>,
    ) -> io::Result<Self> {
        let (mut child, stream) = launch(settings)?;
        let its_pid = Pid::default();
        let pid = child.id();
        pid.map(|pid| its_pid.get_or_init(|| pid));
        let stderr = follow(&its_pid, child.stdout.take(), child.stderr.take());
        let (orders, received) = mpsc::unbounded_channel();
        let hello = wire::frame(&ToZygote::Hello(settings.hello(true)), &[])?;
        let (read, write) = stream.into_split();
        let nursery = Nursery {
            write,
            id,
            tell: tell.clone(),
            births: HashMap::new(),
        };
        tokio::spawn(nursery.run(child, read, hello, received));
        Ok(Self {
            id,
            pid,
            warm: false,
            orders,
            stderr,
        })
    }

    /// Has a worker forked that gets these descriptors.
    pub(super) fn fork(&self, worker: u64, descriptors: [OwnedFd; DESCRIPTORS]) -> Forked {
        let (begun, has_begun) = oneshot::channel();
        let (ended, has_ended) = oneshot::channel();
        let begun = Some(begun);
        let birth = Birth { begun, ended };
        // One that does not arrive is dropped, and whoever waits hears of it.
        let _ = self.orders.send(Order::Fork(worker, descriptors, birth));
        Forked {
            begun: has_begun,
            ended: has_ended,
            orders: self.orders.clone(),
        }
    }

    /// Ends it, and so whatever it has forked.
    pub(super) fn end(&self) {
        let _ = self.orders.send(Order::End);
    }

    /// The last lines that it wrote to stderr.
    pub(super) fn last_words(&self) -> String {
        self.stderr.told()
    }
}

/// A worker that a zygote has forked, or is about to.
pub(super) struct Forked {
    begun: oneshot::Receiver<Result<u32, String>>,
    ended: oneshot::Receiver<ExitStatus>,
    orders: mpsc::UnboundedSender<Order>,
}

impl Forked {
    /// Waits until it is there: its process id.
    pub(super) async fn begun(&mut self) -> io::Result<u32> {
        match (&mut self.begun).await {
            Ok(begun) => begun.map_err(|reason| io::Error::other(format!("no fork: {reason}"))),
            Err(_) => Err(io::Error::other("its zygote is gone")),
        }
    }

    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let ended = (&mut self.ended).await;
        ended.map_err(|_| io::Error::other("its zygote is gone"))
    }

    /// Its process id may be given to another.
    pub(super) fn reap(&self, pid: u32) {
        let _ = self.orders.send(Order::Reap(pid));
    }

    /// Ends the zygote, and so all that it has forked.
    pub(super) fn end_zygote(&self) {
        let _ = self.orders.send(Order::End);
    }
}

/// The task that attends to a zygote. Whoever waits for a worker of it hears, when this is dropped,
/// that nothing comes any more.
struct Nursery {
    write: OwnedWriteHalf,
    id: u64,
    tell: mpsc::Sender<(u64, Told)>,
    births: HashMap<u64, Birth>,
}

impl Nursery {
    async fn run(
        mut self,
        mut child: Child,
        read: OwnedReadHalf,
        hello: Bytes,
        mut orders: mpsc::UnboundedReceiver<Order>,
    ) {
        let mut read = FramedRead::new(read, wire::codec());
        let mut sent = self.send(&hello, None).await;
        let status = loop {
            if sent.is_err() {
                break self.end(&mut child).await;
            }
            tokio::select! {
                status = child.wait() => break status,
                said = read.next() => match said {
                    Some(Ok(frame)) => match wire::read(frame.freeze()) {
                        Ok((said, _)) => self.said(said).await,
                        Err(error) => sent = Err(io::Error::other(error)),
                    },
                    // It ends, or is to.
                    Some(Err(_)) | None => break self.end(&mut child).await,
                },
                order = orders.recv() => match order {
                    Some(Order::Fork(worker, descriptors, birth)) => {
                        self.births.insert(worker, birth);
                        sent = self.say(&ToZygote::Fork { worker }, Some(&descriptors)).await;
                    }
                    Some(Order::Reap(pid)) => {
                        sent = self.say(&ToZygote::Reap { pid }, None).await;
                    }
                    Some(Order::End) | None => break self.end(&mut child).await,
                },
            }
        };
        let (id, tell) = (self.id, self.tell.clone());
        // Its workers hear first: they are gone with it.
        drop(self);
        let _ = tell.send((id, Told::Ended(said_of(status)))).await;
    }

    /// Ends it: it does so by itself when it hears of no more orders.
    async fn end(&mut self, child: &mut Child) -> io::Result<ExitStatus> {
        // Fails if it has ended.
        let _ = self.write.shutdown().await;
        if let Ok(status) = timeout(END_GRACE, child.wait()).await {
            return status;
        }
        child.start_kill()?;
        child.wait().await
    }

    async fn said(&mut self, said: FromZygote) {
        let told = match said {
            FromZygote::Warm { weaker } => Told::Warm(weaker),
            FromZygote::CannotFork { reason } => Told::CannotFork(reason),
            FromZygote::Unusable { fault } => Told::Unusable(Fault::read(&fault)),
            FromZygote::Log {
                level,
                logger,
                message,
            } => return log::forward(level, &logger, &message),
            FromZygote::Forked { worker, pid } => return self.begun(worker, Ok(pid)),
            FromZygote::NotForked { worker, reason } => {
                self.begun(worker, Err(reason));
                self.births.remove(&worker);
                return;
            }
            FromZygote::Ended {
                worker,
                exited,
                status,
            } => {
                // As `wait` would tell it.
                let status = ExitStatus::from_raw(if exited { status << 8 } else { status });
                if let Some(birth) = self.births.remove(&worker) {
                    let _ = birth.ended.send(status);
                }
                return;
            }
        };
        let _ = self.tell.send((self.id, told)).await;
    }

    fn begun(&mut self, worker: u64, begun: Result<u32, String>) {
        let birth = self.births.get_mut(&worker);
        if let Some(waits) = birth.and_then(|birth| birth.begun.take()) {
            let _ = waits.send(begun);
        }
    }

    async fn say(&self, what: &ToZygote<'_>, descriptors: Option<&[OwnedFd]>) -> io::Result<()> {
        let frame = wire::frame(what, &[])?;
        self.send(&frame, descriptors).await
    }

    /// Sends a frame, with descriptors beside its first byte.
    async fn send(&self, frame: &Bytes, descriptors: Option<&[OwnedFd]>) -> io::Result<()> {
        let mut whole = BytesMut::with_capacity(4 + frame.len());
        whole.put_u32(u32::try_from(frame.len()).map_err(io::Error::other)?);
        whole.put_slice(frame);
        let stream = self.write.as_ref();
        let mut descriptors = descriptors.unwrap_or_default();
        let mut sent = 0;
        while sent < whole.len() {
            let rest = &whole[sent..];
            let send = || send_some(stream, rest, descriptors);
            sent += stream.async_io(Interest::WRITABLE, send).await?;
            descriptors = &[];
        }
        Ok(())
    }
}

/// Sends as much as fits for now.
fn send_some(stream: &UnixStream, rest: &[u8], descriptors: &[OwnedFd]) -> io::Result<usize> {
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut attached = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !attached.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("more descriptors than there is room for"));
    }
    let sent = sendmsg(
        stream,
        &[IoSlice::new(rest)],
        &mut attached,
        SendFlags::NOSIGNAL,
    )?;
    Ok(sent)
}
