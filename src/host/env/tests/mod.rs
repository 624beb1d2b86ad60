//! No real Python: venvs are files, and the interpreter is a shell script.

mod check;
mod command;
mod create;
mod find;
#[cfg(feature = "python")]
mod loaded;
mod not_a_venv;
mod standalone;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::host::env::{
    EnvError, LinkedPython, Origin, PythonEnv, Venv,
    base::{Base, BasePython},
    check as env_check,
};

/// A machine with one Python 3.11.7 and a place for venvs.
struct Machine {
    root: TempDir,
    linked: LinkedPython,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let base = root.path().join("base");
        fs::create_dir_all(base.join("bin")).unwrap();
        let linked = LinkedPython::new("3.11.7 (main, May  9 2026) [GCC 12.2.0]", &base);
        let script = include_str!("fake_python.sh").replace("@BASE@", base.to_str().unwrap());
        write_executable(linked.interpreter(), &script);
        Self { root, linked }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn base(&self, name: &str) -> PathBuf {
        self.linked.base_prefix().join(name)
    }

    /// A venv that fits, made by hand.
    fn venv(&self, name: &str) -> PathBuf {
        let venv = self.path(name);
        self.write_config(&venv, &self.base("bin"), "version = 3.11.7");
        fs::create_dir_all(venv.join("bin")).unwrap();
        std::os::unix::fs::symlink(self.linked.interpreter(), venv.join("bin/python")).unwrap();
        install_dspy(&venv, "3.4.1");
        venv
    }

    /// Checks a venv for the process that is linked to this machine's Python.
    fn check(&self, venv: &Path) -> Result<PythonEnv, EnvError> {
        env_check::check(&Venv::new(venv, Origin::Explicit), &needs(&self.linked))
    }

    fn write_config(&self, venv: &Path, home: &Path, version: &str) {
        fs::create_dir_all(venv).unwrap();
        let text = format!(
            "home = {}\ninclude-system-site-packages = false\n{version}\n",
            home.display()
        );
        fs::write(venv.join("pyvenv.cfg"), text).unwrap();
    }

    /// What the fake interpreter was asked to do, in order: `venv` and `pip`.
    fn calls(&self) -> Vec<String> {
        let log = fs::read_to_string(self.base("calls")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

/// The linked Python, on a machine without uv.
fn needs(linked: &LinkedPython) -> Base {
    Base {
        python: BasePython::Linked(linked.clone()),
        uv: None,
    }
}

/// What an installation that is kept elsewhere leaves in the venv, as by `pip install -e`.
fn install_dspy(venv: &Path, version: &str) -> PathBuf {
    let site = venv.join("lib/python3.11/site-packages");
    let info = site.join(format!("dspy-{version}.dist-info"));
    fs::create_dir_all(&info).unwrap();
    fs::write(info.join("METADATA"), "Name: dspy\n").unwrap();
    fs::write(info.join("RECORD"), "__editable__.dspy.pth,,\n").unwrap();
    info
}

/// The package itself, which says its version as DSPy's does.
fn unpack_dspy(venv: &Path, version: &str) {
    let package = venv.join("lib/python3.11/site-packages/dspy");
    fs::create_dir_all(&package).unwrap();
    fs::write(package.join("__init__.py"), "").unwrap();
    let text = format!(
        "#replace_package_name_marker\n__name__=\"dspy\"\n#replace_package_version_marker\n\
         __version__=\"{version}\"\n__description__=\"DSPy\"\n"
    );
    fs::write(package.join("__metadata__.py"), text).unwrap();
}

/// Written by another process. If this one had it open for writing, a child that another test
/// forks at that moment would have it open too, and running it would fail as "text file busy".
fn write_executable(path: &Path, text: &str) {
    let mut shell = Command::new("/bin/sh")
        .args(["-c", r#"cat >"$0" && chmod 755 "$0""#])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    shell
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    assert!(shell.wait().unwrap().success());
}

/// Asserts the kind of an error, and that its message holds every one of `parts`.
#[track_caller]
fn assert_error<T: std::fmt::Debug>(
    result: Result<T, EnvError>,
    is_kind: impl FnOnce(&EnvError) -> bool,
    parts: &[&str],
) {
    let error = result.unwrap_err();
    assert!(is_kind(&error), "another kind of error: {error:?}");
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
}

macro_rules! kind {
    ($variant:ident) => {
        |error: &$crate::host::env::EnvError| {
            matches!(error, $crate::host::env::EnvError::$variant { .. })
        }
    };
}
use kind;
