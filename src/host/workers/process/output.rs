//! The output of Python code: read line by line into the log, so that no pipe of a child ever fills.

use std::{
    collections::VecDeque,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::unix::pipe::Receiver,
};

use crate::lm::without_keys;

/// The longest line that is kept whole, in bytes.
const LONGEST_LINE: u64 = 8 << 10;
/// How many of the last lines are kept.
const LINES: usize = 20;

/// The id of a process, once it has one.
pub(super) type Pid = Arc<OnceLock<u32>>;

/// The last lines that a process wrote.
#[derive(Clone, Default)]
pub(super) struct LastLines(Arc<Mutex<VecDeque<String>>>);

impl LastLines {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    pub(super) fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| format!("\n  {line}")).collect()
    }
}

/// Reads both streams of a process until their write ends are closed.
pub(super) fn follow(pid: &Pid, stdout: OwnedFd, stderr: OwnedFd) -> io::Result<LastLines> {
    let (stdout, stderr) = (
        Receiver::from_owned_fd(stdout)?,
        Receiver::from_owned_fd(stderr)?,
    );
    let last = LastLines::default();
    tokio::spawn(forward(stdout, pid.clone(), "stdout", None));
    tokio::spawn(forward(stderr, pid.clone(), "stderr", Some(last.clone())));
    Ok(last)
}

/// Forwards a stream to the log at debug level: it may contain prompts.
async fn forward(pipe: Receiver, pid: Pid, stream: &'static str, keep: Option<LastLines>) {
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
                tracing::debug!(
                    target: "tower_dspy::python",
                    pid = pid.get(),
                    stream,
                    "{}",
                    without_keys(text)
                );
                if let Some(keep) = &keep {
                    keep.push(text);
                }
            }
        }
    }
}
