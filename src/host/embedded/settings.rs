//! The settings of a host in this process.

use std::{path::PathBuf, time::Duration};

use crate::{
    call::Budget,
    host::{
        core::load_limit::{LOAD_LIMIT, LONGEST_LOAD_LIMIT},
        env::VenvChoice,
    },
};

/// The default of [`Embedded::sync_threads`].
const SYNC_THREADS: usize = 64;
/// The default of [`Embedded::max_abandoned`].
const MAX_ABANDONED: usize = 16;
/// The default of [`Embedded::thread_grace`].
const THREAD_GRACE: Duration = Duration::from_secs(5);

/// The longest time that Python's timers can hold.
const LONGEST_GRACE: Duration = Duration::from_secs(365 * 24 * 3600);

/// The settings of a host in this process, from [`Host::embedded`](crate::Host::embedded).
///
/// # Where the program finds libpython
/// The program is linked to the libpython of the Python that it was built with: `$PYO3_PYTHON`, else
/// the `python3` of the build. `cargo run` and `cargo test` find that library by themselves. The
/// program started in any other way finds it if it is in a folder that the loader knows, as that of
/// Debian's packages and of the container images `python` is. For any other folder the program needs
/// a run path, by a `build.rs` in the package of the program, which has to depend on `tower-dspy`
/// itself: a run path that the build script of a library sets does not reach its dependents.
///
/// ```no_run
/// fn main() {
///     let libdir = std::env::var("DEP_TOWER_DSPY_PYTHON_LIBDIR")
///         .expect("a direct dependency on tower-dspy, with feature `python`");
///     println!("cargo::rustc-link-arg=-Wl,-rpath,{libdir}");
/// }
/// ```
///
/// If the loader takes another libpython than that of the build, the start fails with
/// [`EnvError::OtherLibpython`](crate::host::env::EnvError::OtherLibpython).
#[expect(clippy::needless_doctest_main, reason = "a whole build script")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is started before `start`"]
pub struct Embedded {
    pub(in crate::host) venv: VenvChoice,
    pub(super) python_path: Vec<PathBuf>,
    pub(super) sync_threads: usize,
    pub(in crate::host) max_abandoned: usize,
    pub(super) thread_grace: Duration,
    pub(super) load_limit: Duration,
    pub(super) watchdog: bool,
    pub(in crate::host) budget: Option<Budget>,
}

impl Embedded {
    pub(in crate::host) fn new() -> Self {
        Self {
            venv: VenvChoice::Find,
            python_path: Vec::new(),
            sync_threads: SYNC_THREADS,
            max_abandoned: MAX_ABANDONED,
            thread_grace: THREAD_GRACE,
            load_limit: LOAD_LIMIT,
            watchdog: true,
            budget: None,
        }
    }

    /// The venv that holds DSPy.
    ///
    /// Without it, the first of these is taken: `$VIRTUAL_ENV`, a `.venv` in the working directory
    /// or above it, the venv of `$PYO3_PYTHON`, the venv this crate was built with.
    pub fn venv(mut self, path: impl Into<PathBuf>) -> Self {
        self.venv = VenvChoice::Use(path.into());
        self
    }

    /// Uses the venv at `path`, and makes it if there is none, with the packages that this crate was
    /// tested with: once, some seconds with uv and a minute or two with pip, some 300 MB. Events of
    /// target `tower_dspy` say so at level info, and tell each step at debug. It is made with the Python of the build.
    ///
    /// A venv that fits is never changed, as other processes may use it;
    /// [`PythonEnv::create`](crate::host::env::PythonEnv::create) updates its packages. A venv that does not
    /// fit is made again if this crate made it; else the start fails.
    /// Several processes may do this at once: one makes the venv, the others wait for it.
    ///
    /// # Cancel safety
    /// Dropping the future of the start does not stop this: the venv is made to its end, and the next
    /// start finds it.
    pub fn create_venv(mut self, path: impl Into<PathBuf>) -> Self {
        self.venv = VenvChoice::Create(path.into());
        self
    }

    /// Looks for programs in this folder, before all others; may be given more than once.
    ///
    /// Without it, programs are looked for in the working directory as well, after all others: the
    /// working directory that this process has when the host starts. So `programs/qa.py` beside
    /// `Cargo.toml` is `programs.qa:Program`. No file there takes the place of an installed package, but a
    /// folder or a file with the name of a package that is not installed can be imported as that.
    pub fn python_path(mut self, folder: impl Into<PathBuf>) -> Self {
        self.python_path.push(folder.into());
        self
    }

    /// How many threads the sync programs of the host share: 64 by default, at least 1.
    /// They are made as they are needed; a call beyond them waits for one, in flight.
    pub fn sync_threads(mut self, threads: usize) -> Self {
        self.sync_threads = threads.max(1);
        self
    }

    /// The time that a thread has to end its work after the signal to stop: 5 seconds by default, a
    /// year at most.
    ///
    /// Then the thread is signalled again, and a moment later it is *abandoned*: another thread takes
    /// its place, and its call stays in flight, with its permit, until it ends by itself. Python has
    /// no way to end a thread. This bounds no caller's wait: a layer's limit and its grace do.
    ///
    /// A call that blocks the loop has the same time to clean up before it is signalled again, and a
    /// child process of a call that was ended has it between SIGTERM and SIGKILL.
    pub fn thread_grace(mut self, grace: Duration) -> Self {
        self.thread_grace = grace.min(LONGEST_GRACE);
        self
    }

    /// How many abandoned threads there may be at once, of sync programs, and as many of what
    /// async programs hand to `asyncio.to_thread`: 16 by default.
    ///
    /// With that many at work the host's health is [`Health::Exhausted`](crate::Health::Exhausted)
    /// and calls of sync programs answer [`Overloaded`](crate::Overloaded), until one of the
    /// threads ends. A host that stays so has to be started anew, with its process.
    pub fn max_abandoned(mut self, threads: usize) -> Self {
        self.max_abandoned = threads;
        self
    }

    /// How long the loading of one program may take, from when it begins: 30 minutes by default, a
    /// year at most. The download of a model belongs to it; the wait for the loads before it does
    /// not. There is no least limit: with zero each load fails that has a part on a thread.
    ///
    /// Then the load fails, with
    /// [`LoadErrorKind::Elapsed`](crate::LoadErrorKind::Elapsed), and the loads after it begin.
    /// A part of it that runs on a thread, as the import of a package does, may go on. A part that
    /// blocks the loop, as the import of the program's own module may, is not ended by this.
    pub fn load_limit(mut self, limit: Duration) -> Self {
        self.load_limit = limit.min(LONGEST_LOAD_LIMIT);
        self
    }

    /// Charges the LM calls of all programs of the host to `budget`, those that belong to no call among
    /// them: none by default. With a window it limits what the host spends in a day, for example.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_dspy::{Budget, BudgetLimits, Host, Usd};
    ///
    /// let day = Duration::from_secs(24 * 3600);
    /// let limits = BudgetLimits::new().with_usd(Usd::new(50.0)).with_window(day);
    /// let host = Host::embedded().budget(&Budget::new(limits.with_name("the host")));
    /// # let _ = host;
    /// ```
    pub fn budget(mut self, budget: &Budget) -> Self {
        self.budget = Some(budget.clone());
        self
    }

    /// Whether a thread monitors the loop; it does by default.
    ///
    /// It names the frame that blocks the loop, in [`Health`](crate::Health) and in a warning with
    /// the program and the call, and it ends a call that blocks the loop in Python code and is
    /// over already. It also ends waits that a cancelled call's thread had not begun when it was
    /// told to stop, and all waits of the loop's thread: without it these stay.
    pub fn watchdog(mut self, yes: bool) -> Self {
        self.watchdog = yes;
        self
    }
}
