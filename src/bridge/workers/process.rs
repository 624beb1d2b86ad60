//! One child process: started, its output taken down, and ended with all that it started.

use std::{
    collections::VecDeque,
    io::ErrorKind,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};
use tokio_util::codec::{FramedRead, FramedWrite};

use super::wire::{self, FromWorker, Hello, ToWorker};
use crate::{
    bridge::room::{BOOTSTRAP, MODULES},
    lm::key_variables,
};

/// What runs first in a worker.
const LAUNCH: &str = include_str!("../../python/tower_dspy/launch.py");
/// What is told of a process that said all it had to say.
pub(super) const HUNG_UP: &str = "it hung up";
/// How long a process has to end after SIGTERM.
const TERM_GRACE: Duration = Duration::from_millis(50);
/// The longest line of output that is kept whole, in bytes.
const LONGEST_LINE: u64 = 8 << 10;
/// How many of the last lines of stderr are kept.
const LINES: usize = 20;

/// How workers are started.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) python: PathBuf,
    pub(super) python_path: Vec<PathBuf>,
    pub(super) uvloop: bool,
    pub(super) sync_threads: usize,
    pub(super) passed_keys: Vec<String>,
}

/// What there is to hear of a worker.
pub(super) enum Told {
    Said(FromWorker, Bytes),
    /// It said what cannot be understood, or hung up.
    Broken(String),
    /// The process has ended. Nothing comes after this.
    Ended(String),
}

/// A process and the way to it.
pub(super) struct Process {
    pub(super) pid: u32,
    out: mpsc::UnboundedSender<Bytes>,
    kill: mpsc::UnboundedSender<()>,
    stderr: LastLines,
}

type LastLines = Arc<Mutex<VecDeque<String>>>;

impl Process {
    /// Starts a process; what is heard of it goes to `tell` with `id`.
    ///
    /// The kernel ends the process when the calling thread ends.
    pub(super) fn start(
        settings: &Settings,
        id: u64,
        tell: &mpsc::Sender<(u64, Told)>,
    ) -> std::io::Result<Self> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let (read, write) = UnixStream::from_std(ours)?.into_split();
        let mut child = command(&settings.python, theirs.into(), &settings.passed_keys).spawn()?;
        let pid = child
            .id()
            .ok_or_else(|| std::io::Error::other("it ended at once"))?;
        let stderr = LastLines::default();
        if let Some(pipe) = child.stdout.take() {
            tokio::spawn(take_down(pipe, pid, "stdout", None));
        }
        if let Some(pipe) = child.stderr.take() {
            tokio::spawn(take_down(pipe, pid, "stderr", Some(stderr.clone())));
        }
        let (kill, kills) = mpsc::unbounded_channel();
        let (out, frames) = mpsc::unbounded_channel();
        tokio::spawn(send(write, frames));
        tokio::spawn(attend(child, pid, read, kills, id, tell.clone()));
        let process = Self {
            pid,
            out,
            kill,
            stderr,
        };
        process.say(
            &ToWorker::Hello(Hello {
                bootstrap: BOOTSTRAP,
                modules: modules(),
                python_path: &settings.python_path,
                uvloop: settings.uvloop,
                sync_threads: settings.sync_threads,
                parent: std::process::id(),
            }),
            &[],
        );
        Ok(process)
    }

    /// Sends a frame. One that does not arrive is one to a process that is about to be replaced.
    pub(super) fn say(&self, what: &ToWorker<'_>, tail: &[u8]) {
        match what.frame(tail) {
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
        let lines = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| format!("\n  {line}")).collect()
    }
}

fn command(python: &Path, socket: OwnedFd, passed_keys: &[String]) -> Command {
    let mut command = Command::new(python);
    command
        // -P: neither the working directory nor a folder of ours comes before the venv.
        .args(["-P", "-c", LAUNCH])
        // Descriptors other than these three are closed on exec, and whatever is not by launch.py.
        .stdin(Stdio::from(socket))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Of its own: what a terminal sends on Ctrl-C is the host's to decide about.
        .process_group(0)
        .kill_on_drop(true);
    // The keys of LMs stay with the host, which puts them into the requests.
    let passed = |name: &str| passed_keys.iter().any(|passed| passed == name);
    for variable in key_variables().filter(|name| !passed(name)) {
        command.env_remove(variable);
    }
    command
}

fn modules() -> Map<String, Value> {
    MODULES
        .iter()
        .map(|(name, source)| ((*name).to_owned(), (*source).into()))
        .collect()
}

/// Takes down what Python code prints: it may repeat prompts, so at debug level.
async fn take_down(
    pipe: impl AsyncRead + Unpin,
    pid: u32,
    stream: &'static str,
    keep: Option<LastLines>,
) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut some = (&mut pipe).take(LONGEST_LINE);
        match some.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_end();
                tracing::debug!(target: "tower_dspy::python", pid, stream, "{text}");
                if let Some(keep) = &keep {
                    let mut keep = keep.lock().unwrap_or_else(PoisonError::into_inner);
                    if keep.len() == LINES {
                        keep.pop_front();
                    }
                    keep.push_back(text.to_owned());
                }
            }
        }
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

/// Hears what the process says until it has ended.
async fn attend(
    mut child: Child,
    pid: u32,
    read: OwnedReadHalf,
    mut kills: mpsc::UnboundedReceiver<()>,
    id: u64,
    tell: mpsc::Sender<(u64, Told)>,
) {
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
                Some(Ok(frame)) => FromWorker::read(frame.freeze()),
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
            status = child.wait() => return status,
            Some(()) = kills.recv() => {}
        }
        signal(pid, Signal::TERM);
        match timeout(TERM_GRACE, child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                signal(pid, Signal::KILL);
                child.wait().await
            }
        }
    };
    let (mut hear, mut end) = (std::pin::pin!(hear), std::pin::pin!(end));
    let mut deaf = false;
    let status = loop {
        tokio::select! {
            status = &mut end => break status,
            () = &mut hear, if !deaf => deaf = true,
        }
    };
    // What it has started goes with it.
    signal(pid, Signal::KILL);
    // What it said before its end is heard first. The socket has ended with the process, unless
    // a child that left the group holds it.
    if !deaf {
        let _ = timeout(TERM_GRACE, hear).await;
    }
    let _ = tell.send((id, Told::Ended(said_of(status)))).await;
}

fn said_of(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("it ended with {status}"),
        Err(error) => format!("it ended ({error})"),
    }
}

/// Fails if nobody of the group is left.
fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(pid, signal);
    }
}
