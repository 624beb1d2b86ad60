//! The packages that rows need and DSPy does not bring, installed once into `target`.

use std::{fs, path::PathBuf};

use tokio::process::Command;
use tower_dspy::host::env::PythonEnv;

/// Where Python is and what is put on its path.
#[derive(Debug)]
pub(super) struct Packages {
    pub(super) venv: PathBuf,
    pub(super) folder: PathBuf,
}

impl Packages {
    pub(super) fn python(&self) -> PathBuf {
        self.venv.join("bin/python")
    }
}

/// The venv of the workspace and the folder of the packages, each made if there is none.
pub(super) async fn installed() -> Packages {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let env = PythonEnv::create(root.join(".venv"))
        .progress(|line| eprintln!("{line}"))
        .run()
        .await
        .expect("a venv");
    let packages = Packages {
        venv: env.prefix().to_path_buf(),
        folder: root.join("target/same-packages"),
    };
    let lock = root.join("tests/same/requirements.lock");
    let locked = fs::read_to_string(&lock).expect("the lock");
    // What was compiled for one version of Python is not there for another.
    let locked = format!("# Python {}\n{locked}", env.python_version());
    let stamp = packages.folder.join("installed.lock");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == locked) {
        return packages;
    }
    let installed = Command::new(packages.python())
        .args(["-m", "pip", "install", "--quiet"])
        .args(["--disable-pip-version-check", "--upgrade"])
        .args(["--require-hashes", "--no-deps", "--target"])
        .arg(&packages.folder)
        .arg("-r")
        .arg(&lock)
        .status()
        .await
        .expect("pip");
    assert!(installed.success(), "pip: {installed}");
    fs::write(stamp, locked).expect("a stamp");
    packages
}
