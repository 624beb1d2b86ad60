//! numpy, which `dspy.Embedder` needs and DSPy does not bring: a folder for Python's path, installed
//! once into `target`.
//!
//! In production numpy belongs into the venv, by a line of its requirements.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
};

use tokio::process::Command;
use tower_dspy::host::env::PythonEnv;

/// The folder, made by the venv's pip if there is none for its version of Python.
pub(crate) async fn numpy(env: &PythonEnv) -> io::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let name = format!("rag-packages-{}", env.python_version());
    let folder = root.join("target").join(name);
    if folder.exists() {
        return Ok(folder);
    }
    // Another process may install it at the same time.
    let part = folder.with_extension(format!("part-{}", process::id()));
    let installed = Command::new(env.python())
        .args(["-m", "pip", "install", "--quiet", "--no-deps"])
        .args(["--disable-pip-version-check", "--require-hashes", "-r"])
        .arg(root.join("examples/rag/requirements.lock"))
        .arg("--target")
        .arg(&part)
        .status()
        .await?;
    if !installed.success() {
        return Err(io::Error::other(format!("pip: {installed}")));
    }
    if let Err(error) = fs::rename(&part, &folder) {
        fs::remove_dir_all(&part)?;
        if !folder.exists() {
            return Err(error);
        }
    }
    Ok(folder)
}
