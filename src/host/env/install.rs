//! The commands of a creation: by uv if it is there, else by `venv` and `pip`.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    path::Path,
};

use super::{
    base::{Base, Maker},
    command,
    error::EnvError,
    linked::LinkedPython,
    step::{self, Step},
    venv::IN_PROGRESS,
};

/// Where neither PYTHONHOME nor a package in the working directory may get in the way.
const ISOLATED: &str = "-I";

type Progress<'a> = &'a mut dyn FnMut(&str);

/// What is to be installed, and where.
pub(super) struct Installation<'a> {
    pub(super) venv: &'a Path,
    /// The packages, with their hashes.
    pub(super) requirements: &'a Path,
    pub(super) python: &'a LinkedPython,
    /// The venv is there and fits.
    pub(super) is_update: bool,
    /// Held by each command for as long as it runs.
    pub(super) lock: &'a File,
}

impl Installation<'_> {
    pub(super) fn run(&self, base: &Base, progress: Progress<'_>) -> Result<(), EnvError> {
        if let Some(uv) = &base.uv {
            match self.by_uv(uv, progress) {
                Ok(()) => return Ok(()),
                // It has settings of its own: it may know of no mirror, proxy or certificate.
                Err(error) => progress(&format!("by pip, as uv failed: {error}")),
            }
        }
        self.by_pip(progress)
    }

    fn by_uv(&self, uv: &Path, progress: Progress<'_>) -> Result<(), EnvError> {
        let step = |name, args: &[&OsStr], progress: Progress<'_>| {
            let by_hand = command::make_and_install_lock(self.venv, self.python.interpreter());
            self.step(name, uv, args, &by_hand, progress)
        };
        let venv = self.venv.as_os_str();
        if !self.is_update {
            self.clear()?;
            self.announce("uv", progress);
            // What is there already: the packages to install.
            let args = ["venv", "--no-project", "--allow-existing", "--python"].map(OsStr::new);
            let interpreter = self.python.interpreter().as_os_str();
            step(
                "`uv venv`",
                &[&args[..], &[interpreter, venv]].concat(),
                progress,
            )?;
        }
        progress("installing the locked packages");
        // Compiled, as by pip: a venv that is read-only later would be compiled at each start.
        let args = [
            "pip",
            "install",
            "--compile-bytecode",
            "--require-hashes",
            "--python",
        ];
        let args = args.map(OsStr::new);
        let lock = [venv, OsStr::new("-r"), self.requirements.as_os_str()];
        step("`uv pip install`", &[&args[..], &lock].concat(), progress)
    }

    fn by_pip(&self, progress: Progress<'_>) -> Result<(), EnvError> {
        let python = self.venv.join("bin").join("python");
        let by_hand = command::install_lock(self.venv);
        if self.is_update {
            if !self.has_pip() {
                let args = [ISOLATED, "-m", "ensurepip"].map(OsStr::new);
                self.step("`python -m ensurepip`", &python, &args, &by_hand, progress)?;
            }
        } else {
            self.clear()?;
            self.announce("venv", progress);
            let interpreter = self.python.interpreter();
            let [isolated, module, name] = [ISOLATED, "-m", "venv"].map(OsStr::new);
            let args = [isolated, module, name, self.venv.as_os_str()];
            let by_hand = command::make_and_install_lock(self.venv, interpreter);
            self.step("`python -m venv`", interpreter, &args, &by_hand, progress)?;
        }
        progress("installing the locked packages");
        let args = [
            ISOLATED,
            "-m",
            "pip",
            "install",
            "--no-input",
            "--disable-pip-version-check",
            "--progress-bar=off",
            "--require-hashes",
            "-r",
        ]
        .map(OsStr::new);
        let args = [&args[..], &[self.requirements.as_os_str()]].concat();
        self.step("`pip install`", &python, &args, &by_hand, progress)
    }

    fn step(
        &self,
        name: &'static str,
        program: &Path,
        args: &[&OsStr],
        by_hand: &str,
        progress: Progress<'_>,
    ) -> Result<(), EnvError> {
        let step = Step {
            name,
            program,
            args,
            by_hand,
            venv: self.venv,
            python: self.python.short_version(),
        };
        step::run(&step, self.lock, progress)
    }

    fn announce(&self, by: &str, progress: Progress<'_>) {
        progress(&format!(
            "making a venv at {} by {by} with {}",
            self.venv.display(),
            self.python.interpreter().display()
        ));
    }

    fn has_pip(&self) -> bool {
        let lib = format!("lib/python{}", self.python.short_version());
        self.venv.join(lib).join("site-packages/pip").is_dir()
    }

    /// Removes what an earlier creation left.
    fn clear(&self) -> Result<(), EnvError> {
        clear(self.venv).map_err(|source| EnvError::Io {
            action: "empty",
            path: self.venv.to_owned(),
            source,
            command: command::remake(
                self.venv,
                &Maker {
                    interpreter: self.python.interpreter().to_owned(),
                    has_uv: false,
                },
            ),
        })
    }
}

/// All but the file that says that a creation is under way.
fn clear(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == IN_PROGRESS {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
