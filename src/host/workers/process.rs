//! One worker process: the way to it, and what is heard of it until it has ended.

use std::{
    io::{self, ErrorKind},
    os::unix::net::UnixStream as StdStream,
    process::ExitStatus,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Pid as RawPid, Signal, kill_process_group},
};
use tokio::{
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf, pipe::Receiver},
    },
    process::Child,
    sync::mpsc,
    time::timeout,
};
use tokio_util::codec::{FramedRead, FramedWrite};

use super::{
    Told,
    launch::{Settings, launch},
    output::{LastLines, Pid, follow},
    wire::{self, ToWorker},
    zygote::{Forked, Zygote},
};

/// What is told of a process that said all it had to say.
pub(super) const HUNG_UP: &str = "it hung up";
/// How long a process has to end after SIGTERM.
const TERM_GRACE: Duration = Duration::from_millis(50);
/// How long a zygote may take to tell of an end that SIGKILL has brought about.
const ZYGOTE_PATIENCE: Duration = Duration::from_secs(1);

/// A process and the way to it.
pub(super) struct Process {
    pid: Pid,
    out: mpsc::UnboundedSender<Bytes>,
    kill: mpsc::UnboundedSender<()>,
    stderr: LastLines,
}

impl Process {
    /// Starts a process of its own; what is heard of it goes to `tell` with `id`.
    ///
    /// The kernel ends the process when the calling thread ends.
    pub(super) fn spawn(
        settings: &Settings,
        id: u64,
        tell: &mpsc::Sender<(u64, Told)>,
    ) -> io::Result<Self> {
        let (mut child, stream) = launch(settings)?;
        let pid = Pid::default();
        let stderr = follow(&pid, child.stdout.take(), child.stderr.take());
        let process = Self::new(Life::Child(child), stream, pid, stderr, id, tell);
        process.say(&ToWorker::Hello(settings.hello(false)), &[]);
        Ok(process)
    }

    /// Forks a process from a zygote.
    pub(super) fn fork(
        zygote: &Zygote,
        id: u64,
        tell: &mpsc::Sender<(u64, Told)>,
    ) -> io::Result<Self> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, their_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        let read = Receiver::from_owned_fd;
        let pid = Pid::default();
        let last = follow(&pid, Some(read(stdout)?), Some(read(stderr)?));
        let forked = zygote.fork(id, [theirs.into(), their_stdout, their_stderr]);
        let stream = UnixStream::from_std(ours)?;
        Ok(Self::new(Life::Forked(forked), stream, pid, last, id, tell))
    }

    fn new(
        life: Life,
        stream: UnixStream,
        pid: Pid,
        stderr: LastLines,
        id: u64,
        tell: &mpsc::Sender<(u64, Told)>,
    ) -> Self {
        let (read, write) = stream.into_split();
        let (kill, kills) = mpsc::unbounded_channel();
        let (out, frames) = mpsc::unbounded_channel();
        tokio::spawn(send(write, frames));
        tokio::spawn(attend(life, pid.clone(), read, kills, id, tell.clone()));
        Self {
            pid,
            out,
            kill,
            stderr,
        }
    }

    /// Its id; `None` while it is not there yet.
    pub(super) fn pid(&self) -> Option<u32> {
        self.pid.get().copied()
    }

    /// Sends a frame. One that does not arrive is one to a process that is about to be replaced.
    pub(super) fn say(&self, what: &ToWorker<'_>, tail: &[u8]) {
        match wire::frame(what, tail) {
            Ok(frame) => {
                let _ = self.out.send(frame);
            }
            Err(error) => {
                tracing::error!(target: "tower_dspy", %error, "a frame could not be written");
                self.kill();
            }
        }
    }

    /// Ends the process and all that it started: SIGTERM, and soon SIGKILL.
    pub(super) fn kill(&self) {
        // Fails if it has ended.
        let _ = self.kill.send(());
    }

    /// The last lines that it wrote to stderr.
    pub(super) fn last_words(&self) -> String {
        self.stderr.told()
    }
}

async fn send(write: OwnedWriteHalf, mut frames: mpsc::UnboundedReceiver<Bytes>) {
    let mut write = FramedWrite::new(write, wire::codec());
    while let Some(frame) = frames.recv().await {
        let mut sent = write.feed(frame).await;
        while let (Ok(()), Ok(frame)) = (&sent, frames.try_recv()) {
            sent = write.feed(frame).await;
        }
        if sent.is_ok() {
            sent = SinkExt::<Bytes>::flush(&mut write).await;
        }
        if sent.is_err() {
            // Whoever reads from the process notices as well, and says so.
            return;
        }
    }
}

/// Whose child a process is: who is asked about its end.
enum Life {
    Child(Child),
    Forked(Forked),
}

impl Life {
    /// Waits until the process is there.
    async fn begun(&mut self) -> io::Result<u32> {
        match self {
            Self::Child(child) => child
                .id()
                .ok_or_else(|| io::Error::other("it ended at once")),
            Self::Forked(forked) => forked.begun().await,
        }
    }

    async fn ended(&mut self) -> io::Result<ExitStatus> {
        match self {
            Self::Child(child) => child.wait().await,
            Self::Forked(forked) => forked.ended().await,
        }
    }

    /// The same of one that was sent SIGKILL. A zygote that does not tell is no good.
    async fn killed(&mut self) -> io::Result<ExitStatus> {
        if let Self::Forked(forked) = self
            && let Ok(status) = timeout(ZYGOTE_PATIENCE, forked.ended()).await
        {
            return status;
        }
        if let Self::Forked(forked) = self {
            forked.end_zygote();
        }
        self.ended().await
    }
}

/// Hears what the process says until it has ended.
async fn attend(
    mut life: Life,
    its_pid: Pid,
    read: OwnedReadHalf,
    mut kills: mpsc::UnboundedReceiver<()>,
    id: u64,
    tell: mpsc::Sender<(u64, Told)>,
) {
    let pid = match life.begun().await {
        Ok(pid) => pid,
        Err(error) => {
            let _ = tell.send((id, Told::Ended(error.to_string()))).await;
            return;
        }
    };
    let pid = *its_pid.get_or_init(|| pid);
    let _ = tell.send((id, Told::Begun)).await;
    let mut read = FramedRead::new(read, wire::codec());
    let hear = async {
        let broken = loop {
            let said = match read.next().await {
                None => break HUNG_UP.to_owned(),
                // It ended with something of ours unread.
                Some(Err(error)) if error.kind() == ErrorKind::ConnectionReset => {
                    break HUNG_UP.to_owned();
                }
                Some(Err(error)) => break error.to_string(),
                Some(Ok(frame)) => wire::read(frame.freeze()),
            };
            match said {
                Ok((said, tail)) => {
                    if tell.send((id, Told::Said(said, tail))).await.is_err() {
                        return;
                    }
                }
                Err(error) => break error,
            }
        };
        let _ = tell.send((id, Told::Broken(broken))).await;
    };
    let end = async {
        tokio::select! {
            status = life.ended() => return status,
            Some(()) = kills.recv() => {}
        }
        signal(pid, Signal::TERM);
        match timeout(TERM_GRACE, life.ended()).await {
            Ok(status) => status,
            Err(_) => {
                signal(pid, Signal::KILL);
                life.killed().await
            }
        }
    };
    let (mut hear, mut end) = (std::pin::pin!(hear), Box::pin(end));
    let mut deaf = false;
    let status = loop {
        tokio::select! {
            status = &mut end => break status,
            () = &mut hear, if !deaf => deaf = true,
        }
    };
    drop(end);
    // What it has started goes with it.
    signal(pid, Signal::KILL);
    if let Life::Forked(forked) = &life {
        forked.reap(pid);
    }
    // What it said before its end is heard first. The socket has ended with the process, unless
    // a child that left the group holds it.
    if !deaf {
        let _ = timeout(TERM_GRACE, hear).await;
    }
    let _ = tell.send((id, Told::Ended(said_of(status)))).await;
}

/// How a process ended, in words.
pub(super) fn said_of(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("it ended with {status}"),
        Err(error) => format!("it ended ({error})"),
    }
}

/// Fails if nobody of the group is left.
fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(RawPid::from_raw) {
        let _ = kill_process_group(pid, signal);
    }
}
