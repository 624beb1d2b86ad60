//! The connection to a process: its socket and its output.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
};

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::UnixStream;

use super::output::{LastLines, Pid, follow};

/// The pool's end of a connection.
pub(super) struct Connection {
    pub(super) pid: Pid,
    pub(super) socket: UnixStream,
    /// What the process writes to stderr.
    pub(super) last_lines: LastLines,
}

/// The process's end: its socket, stdout and stderr.
pub(super) type Descriptors = [OwnedFd; DESCRIPTORS];
pub(super) const DESCRIPTORS: usize = 3;

impl Connection {
    pub(super) fn new() -> io::Result<(Self, Descriptors)> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, their_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        let pid = Pid::default();
        let connection = Self {
            socket: UnixStream::from_std(ours)?,
            last_lines: follow(&pid, stdout, stderr)?,
            pid,
        };
        Ok((connection, [theirs.into(), their_stdout, their_stderr]))
    }
}
