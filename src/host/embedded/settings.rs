//! The settings of a host in this process.

use std::{path::PathBuf, time::Duration};

/// Threads for sync programs, unless [`Embedded::sync_threads`] says otherwise.
const SYNC_THREADS: usize = 64;
/// Abandoned threads at once, unless [`Embedded::max_abandoned`] says otherwise.
const MAX_ABANDONED: usize = 16;
/// Until a thread is given up, unless [`Embedded::thread_grace`] says otherwise.
const THREAD_GRACE: Duration = Duration::from_secs(5);

/// What Python's timers can hold.
const LONGEST_GRACE: Duration = Duration::from_secs(365 * 24 * 3600);

/// The settings of a host in this process, from [`Host::embedded`](crate::Host::embedded).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is started before `start`"]
pub struct Embedded {
    pub(in crate::host) venv: Option<PathBuf>,
    pub(super) python_path: Vec<PathBuf>,
    pub(super) sync_threads: usize,
    pub(super) max_abandoned: usize,
    pub(super) thread_grace: Duration,
    pub(super) watchdog: bool,
}

impl Embedded {
    pub(in crate::host) fn new() -> Self {
        Self {
            venv: None,
            python_path: Vec::new(),
            sync_threads: SYNC_THREADS,
            max_abandoned: MAX_ABANDONED,
            thread_grace: THREAD_GRACE,
            watchdog: true,
        }
    }

    /// The venv that holds DSPy.
    ///
    /// Without it, the first of these is taken: `$VIRTUAL_ENV`, a `.venv` in the working directory
    /// or above it, the venv of `$PYO3_PYTHON`, the venv this crate was built with.
    pub fn venv(mut self, path: impl Into<PathBuf>) -> Self {
        self.venv = Some(path.into());
        self
    }

    /// Looks for programs in this folder too, before all others; may be given more than once.
    pub fn python_path(mut self, folder: impl Into<PathBuf>) -> Self {
        self.python_path.push(folder.into());
        self
    }

    /// How many threads the sync programs of the host share: 64 unless said otherwise, at least 1.
    /// They are made as they are needed; a call beyond them waits for one, in flight.
    pub fn sync_threads(mut self, threads: usize) -> Self {
        self.sync_threads = threads.max(1);
        self
    }

    /// How long a thread may take to end its work once that was told to stop, before it is given
    /// up: 5 seconds unless said otherwise, a year at most.
    ///
    /// The same is how long a call that blocks the loop, and was told to stop, may clean up there
    /// before it is told again.
    ///
    /// A thread is told again then, and a moment later it is *abandoned*: another thread takes its
    /// place, and its call stays in flight, with its permit, until it ends by itself. Python has
    /// no way to end one. This bounds no caller's wait: that is what a layer's limit and its
    /// grace are for.
    pub fn thread_grace(mut self, grace: Duration) -> Self {
        self.thread_grace = grace.min(LONGEST_GRACE);
        self
    }

    /// How many abandoned threads there may be at once, of sync programs, and as many of what
    /// async programs hand to `asyncio.to_thread`: 16 unless said otherwise.
    ///
    /// With that many at work the host's health is [`Health::Exhausted`](crate::Health::Exhausted)
    /// and calls of sync programs answer [`Overloaded`](crate::Overloaded), until one of the
    /// threads ends. A host that stays so has to be started anew, with its process.
    pub fn max_abandoned(mut self, threads: usize) -> Self {
        self.max_abandoned = threads;
        self
    }

    /// Whether a thread looks after the loop: yes, unless said otherwise.
    ///
    /// It names the frame that blocks the loop, in [`Health`](crate::Health) and in a warning with
    /// the program and the call, and it ends a call that blocks the loop in Python code and is
    /// over already.
    pub fn watchdog(mut self, yes: bool) -> Self {
        self.watchdog = yes;
        self
    }
}
