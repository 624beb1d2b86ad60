//! The link to one worker process: a handle that sends frames to it, and a task that reads its
//! frames and watches for its exit.

use std::{
    future::Future,
    io::{self, ErrorKind},
    process::ExitStatus,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rustix::process::{Pid as RawPid, Signal, kill_process_group};
use tokio::{
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::timeout,
};
use tokio_util::codec::{FramedRead, FramedWrite};

use super::{
    event::{WorkerEvent, WorkerEvents},
    output::{LastLines, Pid},
};
use crate::host::workers::{frames, wire::ToWorker};

/// How long a process has to end after SIGTERM.
const TERM_GRACE: Duration = Duration::from_millis(50);

/// A watch over a process: for its start and its exit.
pub(super) trait ProcessWatch: Send + 'static {
    /// Waits until the process exists; returns its id.
    fn started(&mut self) -> impl Future<Output = io::Result<u32>> + Send;

    fn exited(&mut self) -> impl Future<Output = io::Result<ExitStatus>> + Send;

    /// Waits for the exit of a process that was sent SIGKILL.
    fn killed(&mut self) -> impl Future<Output = io::Result<ExitStatus>> + Send;

    /// Lets the system give the id of the exited process to another.
    fn release(&self, pid: u32);
}

/// The link to a worker process.
pub(in crate::host::workers) struct WorkerLink {
    pid: Pid,
    out: mpsc::UnboundedSender<Bytes>,
    kill: mpsc::UnboundedSender<()>,
    stderr: LastLines,
}

impl WorkerLink {
    pub(super) fn new(
        watch: impl ProcessWatch,
        stream: UnixStream,
        pid: Pid,
        stderr: LastLines,
        events: WorkerEvents,
    ) -> Self {
        let (read, write) = stream.into_split();
        let (kill, kills) = mpsc::unbounded_channel();
        let (out, frames) = mpsc::unbounded_channel();
        tokio::spawn(send(write, frames));
        tokio::spawn(attend(watch, pid.clone(), read, kills, events));
        Self {
            pid,
            out,
            kill,
            stderr,
        }
    }

    /// Its id; `None` while it is not there yet.
    pub(in crate::host::workers) fn pid(&self) -> Option<u32> {
        self.pid.get().copied()
    }

    /// Sends a frame. A frame to a process that has exited is dropped.
    pub(in crate::host::workers) fn send(&self, message: &ToWorker<'_>, tail: &[u8]) {
        match frames::encode(message, tail) {
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
    pub(in crate::host::workers) fn kill(&self) {
        // Fails if it has ended.
        let _ = self.kill.send(());
    }

    /// The last lines that it wrote to stderr.
    pub(in crate::host::workers) fn last_lines(&self) -> String {
        self.stderr.text()
    }
}

async fn send(write: OwnedWriteHalf, mut frames: mpsc::UnboundedReceiver<Bytes>) {
    let mut write = FramedWrite::new(write, frames::codec());
    while let Some(frame) = frames.recv().await {
        let mut sent = write.feed(frame).await;
        while let (Ok(()), Ok(frame)) = (&sent, frames.try_recv()) {
            sent = write.feed(frame).await;
        }
        if sent.is_ok() {
            sent = SinkExt::<Bytes>::flush(&mut write).await;
        }
        if sent.is_err() {
            // The task that reads from the process notices and reports it.
            return;
        }
    }
}

/// Reads the frames of the process until it has exited.
async fn attend(
    mut watch: impl ProcessWatch,
    its_pid: Pid,
    read: OwnedReadHalf,
    mut kills: mpsc::UnboundedReceiver<()>,
    events: WorkerEvents,
) {
    let pid = match watch.started().await {
        Ok(pid) => pid,
        Err(error) => {
            events.send(WorkerEvent::Exited(error.to_string())).await;
            return;
        }
    };
    let pid = *its_pid.get_or_init(|| pid);
    events.send(WorkerEvent::Spawned).await;
    let mut read = FramedRead::new(read, frames::codec());
    let receive = async {
        let broken = loop {
            let message = match read.next().await {
                None => break None,
                // It exited with a frame of ours unread.
                Some(Err(error)) if error.kind() == ErrorKind::ConnectionReset => {
                    break None;
                }
                Some(Err(error)) => break Some(error.to_string()),
                Some(Ok(frame)) => frames::decode(frame.freeze()),
            };
            match message {
                Ok((message, tail)) => {
                    if !events.send(WorkerEvent::Message(message, tail)).await {
                        return;
                    }
                }
                Err(error) => break Some(error),
            }
        };
        events.send(WorkerEvent::Broken(broken)).await;
    };
    let exit = async {
        tokio::select! {
            status = watch.exited() => return status,
            Some(()) = kills.recv() => {}
        }
        signal(pid, Signal::TERM);
        match timeout(TERM_GRACE, watch.exited()).await {
            Ok(status) => status,
            Err(_) => {
                signal(pid, Signal::KILL);
                watch.killed().await
            }
        }
    };
    let (mut receive, mut exit) = (std::pin::pin!(receive), Box::pin(exit));
    let mut received = false;
    let status = loop {
        tokio::select! {
            status = &mut exit => break status,
            () = &mut receive, if !received => received = true,
        }
    };
    drop(exit);
    // The processes that it has started end with it.
    signal(pid, Signal::KILL);
    watch.release(pid);
    // The frames that it sent before its exit come first. The socket is closed with the process,
    // unless a child that left the group holds it.
    if !received {
        let _ = timeout(TERM_GRACE, receive).await;
    }
    events.send(WorkerEvent::Exited(exit_text(status))).await;
}

/// The description of an exit.
pub(super) fn exit_text(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("it ended with {status}"),
        Err(error) => format!("it ended ({error})"),
    }
}

/// Signals the process group of `pid`. Fails if no process of the group is left.
fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(RawPid::from_raw) {
        let _ = kill_process_group(pid, signal);
    }
}
