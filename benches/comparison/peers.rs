//! The Python packages of the peers, as their lock has them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;
use tower_dspy::host::env::LinkedPython;

use crate::Trouble;

/// Made as `requirements.in` says.
const LOCK: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/benches/comparison/requirements.lock"
);

/// Prints the versions of what is compared.
const VERSIONS: &str = "
import importlib.metadata as metadata, platform
print('python', platform.python_version())
for name in ['dspy', 'fastapi', 'starlette', 'uvicorn', 'litellm']:
    print(name, metadata.version(name))
";

/// The venv of the peers, made if there is none with these packages.
pub(crate) async fn install() -> Result<PathBuf, Trouble> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/comparison-venv");
    let lock = fs::read_to_string(LOCK)?;
    // Written when all is installed.
    let installed = path.join("installed.lock");
    if fs::read_to_string(&installed).is_ok_and(|installed| installed == lock) {
        return Ok(path);
    }
    make(&path).await.map_err(|trouble| {
        format!("nothing was measured, as the peers could not be installed: {trouble}")
    })?;
    fs::write(installed, lock)?;
    Ok(path)
}

async fn make(path: &Path) -> Result<(), Trouble> {
    // That of the embedded interpreter, which the venv has to fit.
    let python = LinkedPython::build_time()?;
    eprintln!("installing the peers into {} ...", path.display());
    let mut venv = Command::new(python.interpreter());
    run(venv.args(["-I", "-m", "venv", "--clear"]).arg(path)).await?;
    // The lock has all that they depend on. Resolved again, pip refuses the hashes of extras.
    let mut pip = Command::new(path.join("bin/python"));
    let pip = pip.args([
        "-I",
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--require-hashes",
    ]);
    run(pip.args(["--quiet", "--disable-pip-version-check", "-r", LOCK])).await
}

async fn run(command: &mut Command) -> Result<(), Trouble> {
    let status = command.stdin(Stdio::null()).status().await?;
    if status.success() {
        return Ok(());
    }
    Err(format!("{:?} ended with {status}", command.as_std()).into())
}

/// The versions, one a line.
pub(crate) async fn versions(venv: &Path) -> Result<String, Trouble> {
    let mut python = Command::new(venv.join("bin/python"));
    let output = python.args(["-I", "-c", VERSIONS]).output().await?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let mut versions = String::from_utf8(output.stdout)?;
    for (name, version) in rust_versions() {
        versions.push_str(&format!("{name} {version}\n"));
    }
    Ok(versions)
}

/// The versions of the Rust peers, as the workspace's lock has them.
fn rust_versions() -> Vec<(&'static str, String)> {
    const LOCK: &str = include_str!("../../Cargo.lock");
    let version = |name: &str| {
        let (_, package) = LOCK.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        Some(package.split('"').next()?.to_owned())
    };
    let names = [
        "tokio",
        "pyo3",
        "pyo3-async-runtimes",
        "tower-resilience",
        "tower-dspy",
    ];
    let read = |name| (name, version(name).unwrap_or_else(|| "unknown".into()));
    names.map(read).into()
}
