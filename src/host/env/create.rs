//! The creation of a venv: once, whole, and by one process at a time.
//!
//! 1. A venv that this code did not make is never changed.
//! 2. While a venv is being made, the packages to install lie in it as [`IN_PROGRESS`]. The last
//!    change renames that file to [`INSTALLED`]. So an interrupted creation shows, and so does a
//!    change of the lock since.
//! 3. A lock beside the venv is held from the first change to the last. The commands that do the
//!    work hold it too, as their standard input: if this process is killed, nobody else begins
//!    while a `pip` that outlived it still writes.

use std::{
    borrow::Cow,
    ffi::OsString,
    fmt,
    fs::{self, File, TryLockError},
    path::Path,
};

use super::{
    base::Base,
    check, command,
    error::EnvError,
    install::Installation,
    linked::LinkedPython,
    not_a_venv,
    own_thread::on_own_thread,
    python_env::PythonEnv,
    requirements::REQUIREMENTS_LOCK,
    venv::{IN_PROGRESS, INSTALLED, Origin, Venv},
};

type Progress = Box<dyn FnMut(&str) + Send>;

/// The making of a venv: see [`PythonEnv::create`].
#[must_use = "nothing is made before `run` or `run_blocking`"]
pub struct Create {
    venv: Venv,
    pub(super) base: Option<Base>,
    requirements: Cow<'static, str>,
    /// Whether a venv that fits is left as it is, though its packages are not `requirements`.
    keeps_fitting: bool,
    progress: Progress,
}

impl Create {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            venv: Venv::new(path, Origin::Explicit),
            base: None,
            requirements: REQUIREMENTS_LOCK.into(),
            keeps_fitting: false,
            progress: Box::new(|_| ()),
        }
    }

    /// Calls `progress` with each line that says what is being done, `pip`'s own included.
    pub fn progress(mut self, progress: impl FnMut(&str) + Send + 'static) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Makes the venv with this Python, not with the one of the build.
    pub fn linked(mut self, linked: LinkedPython) -> Self {
        self.base = Some(Base::linked(linked));
        self
    }

    /// Makes the venv with the newest Python in `PATH` that is 3.11 or newer, by the first of the
    /// names `python3.13`, `python3.12`, `python3.11` and `python3` that runs: for worker
    /// processes, which need not be of the Python of the build. A venv that is there may be of any
    /// Python from 3.11 on.
    pub fn standalone(mut self) -> Self {
        self.base = Some(Base::any());
        self
    }

    /// Installs these packages, not the ones that come with the library: for programs which need
    /// more than DSPy. It is the text of a requirements file with hashes, `dspy` among them.
    pub fn requirements(mut self, lock: impl Into<Cow<'static, str>>) -> Self {
        self.requirements = lock.into();
        self
    }

    /// Leaves a venv that fits as it is: another process may be running on it.
    pub(super) fn keep_fitting(mut self) -> Self {
        self.keeps_fitting = true;
        self
    }

    /// Makes the venv on a thread of its own, and waits for it.
    ///
    /// # Errors
    /// As for [`run_blocking`](Self::run_blocking).
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the work: the venv is made to its end. Another creation
    /// of the same venv waits for that, and then finds it ready.
    pub async fn run(self) -> Result<PythonEnv, EnvError> {
        let path = self.venv.path().to_owned();
        let made = on_own_thread(move || self.run_blocking()).await;
        made.unwrap_or_else(|error| {
            Err(EnvError::CreateFailed {
                step: "the thread that makes it",
                reason: format!("{error}; a panic is most likely one of the progress callback"),
                output: String::new(),
                command: command::by_hand(&path),
                path,
            })
        })
    }

    /// Makes the venv on this thread: a few seconds if `uv` is in `PATH`, else a minute or two by
    /// `venv` and `pip`, which are tried as well if uv fails.
    ///
    /// # Errors
    /// When `python -m venv` or `pip` fails, when there is no Python to make it with, when a file cannot
    /// be read or written, and when something that this library did not make is in the way and does not
    /// fit: see [`PythonEnv::check`].
    pub fn run_blocking(mut self) -> Result<PythonEnv, EnvError> {
        let base = match self.base.take() {
            Some(base) => base,
            None => Base::of_build()?,
        };
        if let Some(env) = self.ready(&base)? {
            return Ok(env);
        }
        let python = base.python(&self.venv)?;
        let lock = self.lock(&base)?;
        // Another process may have made it while this one waited.
        if let Some(env) = self.ready(&base)? {
            return Ok(env);
        }
        self.make(&base, &python, &lock)
    }

    /// The venv, if nothing is left to do. An error is about one that is not ours to change.
    fn ready(&self, base: &Base) -> Result<Option<PythonEnv>, EnvError> {
        let path = self.venv.path();
        let checked = check::check(&self.venv, base);
        if check::is_ours(path) {
            let installed = fs::read_to_string(path.join(INSTALLED)).ok();
            let current = installed.is_some_and(|lock| lock == self.requirements);
            return Ok(checked.ok().filter(|_| current || self.keeps_fitting));
        }
        match checked {
            Ok(env) => Ok(Some(env)),
            Err(EnvError::Missing { .. }) => Ok(None),
            Err(EnvError::NotAVenv { .. }) if not_a_venv::is_empty(path) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn lock(&mut self, base: &Base) -> Result<File, EnvError> {
        let path = self.venv.path();
        let mut name = path
            .file_name()
            .map_or_else(|| OsString::from("venv"), OsString::from);
        name.push(".lock");
        let lock = path.with_file_name(name);

        let locked = (|| {
            fs::create_dir_all(lock.parent().unwrap_or(path))?;
            let file = File::options()
                .create(true)
                .read(true)
                .append(true)
                .open(&lock)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    (self.progress)(&format!(
                        "waiting for another process that is making {}",
                        path.display()
                    ));
                    file.lock()?;
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            Ok(file)
        })();
        locked.map_err(|source| EnvError::Lock {
            lock,
            source,
            command: command::make(self.venv.path(), &base.maker()),
        })
    }

    fn make(
        mut self,
        base: &Base,
        python: &LinkedPython,
        lock: &File,
    ) -> Result<PythonEnv, EnvError> {
        let path = self.venv.path();
        tracing::info!(
            target: "tower_dspy",
            "making the venv `{}` with DSPy, once: seconds with uv, else a minute or more",
            path.display()
        );
        // Packages that a user has added to a venv of ours outlive a change of the lock.
        let is_update = check::check(&self.venv, base).is_ok();
        let part = path.join(IN_PROGRESS);
        let venv = path;
        let io_error = |action, path: &Path| {
            let (path, command) = (path.to_owned(), command::remake(venv, &base.maker()));
            move |source| EnvError::Io {
                action,
                path,
                source,
                command,
            }
        };

        fs::create_dir_all(path).map_err(io_error("make the folder", path))?;
        fs::write(&part, self.requirements.as_bytes()).map_err(io_error("write", &part))?;
        let installation = Installation {
            venv: path,
            requirements: &part,
            python,
            is_update,
            lock,
        };
        installation.run(base, &mut self.progress)?;

        // As uv and newer versions of Python do: a venv belongs into no repository.
        let ignored = path.join(".gitignore");
        if !ignored.exists() {
            fs::write(&ignored, "*\n").map_err(io_error("write", &ignored))?;
        }
        let installed = path.join(INSTALLED);
        fs::rename(&part, &installed).map_err(io_error("write", &installed))?;
        let env = check::check(&self.venv, base)?;
        tracing::info!(target: "tower_dspy", "the venv `{}` is ready", path.display());
        (self.progress)(&format!(
            "{} is ready, with dspy {}",
            path.display(),
            env.dspy_version()
        ));
        Ok(env)
    }
}

impl fmt::Debug for Create {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Create")
            .field("venv", &self.venv)
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}
