//! The link to one process, a worker or a zygote: a handle that sends frames to it, and a task that
//! reads its frames and watches for its exit.

use std::{
    future::Future,
    io::{self, ErrorKind},
    pin::pin,
    process::ExitStatus,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::{Either, select},
};
use rustix::process::{Pid as RawPid, Signal, kill_process_group};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncWriteExt, BufWriter},
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
    process::Child,
    sync::mpsc,
    time::timeout,
};
use tokio_util::{codec::FramedRead, sync::CancellationToken};

use super::{
    connection::{Connection, Descriptors},
    descriptors::send_descriptors,
    event::{EventSender, PoolEvent, ProcessEvent},
    output::{LastLines, Pid},
};
use crate::host::workers::frames;

/// How long a process has to end after SIGTERM.
const TERM_GRACE: Duration = Duration::from_millis(50);
/// How long a process may take to exist.
const START_LIMIT: Duration = Duration::from_secs(5);
/// How long it may take once it is to be killed.
const KILLED_START_LIMIT: Duration = Duration::from_secs(1);

/// A watch over a process: for its start and its exit.
pub(super) trait ProcessWatch: Send + 'static {
    /// Waits until the process exists; returns its id. A start that takes longer than `limit` is
    /// given up.
    fn started(&mut self, limit: Duration) -> impl Future<Output = io::Result<u32>> + Send;

    fn exited(&mut self) -> impl Future<Output = io::Result<ExitStatus>> + Send;

    /// Waits for the exit of a process that was sent SIGKILL.
    fn killed(&mut self) -> impl Future<Output = io::Result<ExitStatus>> + Send {
        self.exited()
    }

    /// Lets the system give the id of the exited process to another.
    fn release(&self, _: u32) {}
}

impl ProcessWatch for Child {
    async fn started(&mut self, _: Duration) -> io::Result<u32> {
        let id = self.id();
        id.ok_or_else(|| io::Error::other("it ended at once"))
    }

    async fn exited(&mut self) -> io::Result<ExitStatus> {
        self.wait().await
    }
}

/// The link to a process. A clone is a link to the same.
#[derive(Clone)]
pub(in crate::host::workers) struct ProcessLink {
    pid: Pid,
    out: mpsc::UnboundedSender<Option<OutFrame>>,
    kill: CancellationToken,
    last_lines: LastLines,
}

/// A frame to a process, and the descriptors that go with it.
type OutFrame = (Bytes, Option<Descriptors>);

impl ProcessLink {
    /// A link to a process that has been started, or is about to. `of_process` makes its events those
    /// of the pool.
    pub(super) fn new<M: DeserializeOwned + Send + 'static>(
        watch: impl ProcessWatch,
        connection: Connection,
        events: &EventSender,
        of_process: impl Fn(ProcessEvent<M>) -> PoolEvent + Send + Sync + 'static,
    ) -> Self {
        let Connection {
            pid,
            socket,
            last_lines,
        } = connection;
        let (read, write) = socket.into_split();
        let kill = CancellationToken::new();
        let (out, frames) = mpsc::unbounded_channel();
        tokio::spawn(send(write, frames));
        let events = events.clone();
        let report = async move |event| events.send(of_process(event)).await.is_ok();
        tokio::spawn(attend(watch, pid.clone(), read, kill.clone(), report));
        Self {
            pid,
            out,
            kill,
            last_lines,
        }
    }

    /// Its id; `None` while it is not there yet.
    pub(in crate::host::workers) fn pid(&self) -> Option<u32> {
        self.pid.get().copied()
    }

    /// Sends a frame. A frame to a process that has exited is dropped.
    pub(in crate::host::workers) fn send(&self, message: &impl Serialize, tail: &[u8]) {
        self.send_with(message, tail, None);
    }

    /// Sends a frame with descriptors.
    pub(super) fn send_with(
        &self,
        message: &impl Serialize,
        tail: &[u8],
        descriptors: Option<Descriptors>,
    ) {
        match frames::encode(message, tail) {
            Ok(frame) => {
                let _ = self.out.send(Some((frame, descriptors)));
            }
            Err(error) => {
                tracing::error!(target: "tower_dspy", %error, "a frame could not be written");
                self.kill();
            }
        }
    }

    /// Closes the socket for writing, after the frames before.
    pub(super) fn close(&self) {
        let _ = self.out.send(None);
    }

    /// Ends the process and all that it started: SIGTERM, and soon SIGKILL.
    pub(in crate::host::workers) fn kill(&self) {
        self.kill.cancel();
    }

    /// Whether the process is to end by `kill`.
    pub(super) fn is_killed(&self) -> bool {
        self.kill.is_cancelled()
    }

    /// The last lines that it wrote to stderr.
    pub(in crate::host::workers) fn last_lines(&self) -> String {
        self.last_lines.text()
    }
}

/// Writes the frames until one fails: the task that reads from the process notices why.
async fn send(
    write: OwnedWriteHalf,
    mut frames: mpsc::UnboundedReceiver<Option<OutFrame>>,
) -> io::Result<()> {
    let mut write = BufWriter::new(write);
    while let Some(Some((frame, descriptors))) = frames.recv().await {
        let mut sent = 0;
        if let Some(descriptors) = descriptors {
            write.flush().await?;
            sent = send_descriptors(write.get_ref().as_ref(), &frame, &descriptors).await?;
        }
        write.write_all(&frame[sent..]).await?;
        if frames.is_empty() {
            write.flush().await?;
        }
    }
    write.flush().await
}

/// Reads the frames of the process until it has exited.
async fn attend<M: DeserializeOwned>(
    mut watch: impl ProcessWatch,
    its_pid: Pid,
    read: OwnedReadHalf,
    kill: CancellationToken,
    report: impl AsyncFn(ProcessEvent<M>) -> bool,
) {
    let started = tokio::select! {
        started = watch.started(START_LIMIT) => started,
        () = kill.cancelled() => watch.started(KILLED_START_LIMIT).await,
    };
    let pid = match started {
        Ok(pid) => pid,
        Err(error) => {
            report(ProcessEvent::Exited(error.to_string())).await;
            return;
        }
    };
    let pid = *its_pid.get_or_init(|| pid);
    let mut read = FramedRead::new(read, frames::codec());
    let receive = async {
        let broken = loop {
            let message = match read.next().await {
                None => break None,
                // It exited with a frame of ours unread, or in the middle of one of its own.
                Some(Err(error))
                    if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::Other) =>
                {
                    break None;
                }
                Some(Err(error)) => break Some(error.to_string()),
                Some(Ok(frame)) => frames::decode(frame.freeze()),
            };
            match message {
                Ok((message, tail)) => {
                    if !report(ProcessEvent::Message(message, tail)).await {
                        return;
                    }
                }
                Err(error) => break Some(error),
            }
        };
        report(ProcessEvent::Broken(broken)).await;
    };
    let exit = async {
        let ended = tokio::select! {
            status = watch.exited() => Some(status),
            () = kill.cancelled() => {
                signal(pid, Signal::TERM);
                timeout(TERM_GRACE, watch.exited()).await.ok()
            }
        };
        // The processes that it has started end with it.
        signal(pid, Signal::KILL);
        let status = match ended {
            Some(status) => status,
            None => watch.killed().await,
        };
        watch.release(pid);
        status
    };
    let status = match select(pin!(receive), pin!(exit)).await {
        Either::Left(((), exit)) => exit.await,
        Either::Right((status, receive)) => {
            // The frames that it sent before its exit come first. The socket is closed with the
            // process, unless a child that left the group holds it.
            let _ = timeout(TERM_GRACE, receive).await;
            status
        }
    };
    report(ProcessEvent::Exited(exit_text(status))).await;
}

/// The description of an exit.
fn exit_text(status: io::Result<ExitStatus>) -> String {
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::Value;
    use tokio::{net::UnixStream, process::Command};

    use super::*;

    #[tokio::test]
    async fn a_process_that_is_killed_in_the_middle_of_a_frame_is_reported_with_its_signal() {
        let (ours, mut its) = UnixStream::pair().expect("a pair");
        // A length, and less than that.
        its.write_all(&[0, 0, 0, 100, 1]).await.expect("a write");
        let mut sleep = Command::new("sleep");
        let mut process = sleep.arg("3600").process_group(0).spawn().expect("a sleep");
        process.start_kill().expect("a kill");
        drop(its);
        let reports = Mutex::new(Vec::new());
        attend(
            process,
            Pid::default(),
            ours.into_split().0,
            CancellationToken::new(),
            async |event: ProcessEvent<Value>| {
                let said = match event {
                    ProcessEvent::Message(..) => Some("a message".to_owned()),
                    ProcessEvent::Broken(why) => why,
                    ProcessEvent::Exited(how) => Some(how),
                };
                reports.lock().expect("a lock").push(said);
                true
            },
        )
        .await;
        let killed = "it ended with signal: 9 (SIGKILL)".to_owned();
        assert_eq!(reports.into_inner().expect("a lock"), [None, Some(killed)]);
    }
}
