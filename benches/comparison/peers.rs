//! The Python packages of the peers, as their lock has them.

use std::path::{Path, PathBuf};

use tokio::process::Command;
use tower_dspy::host::env::PythonEnv;

use crate::Trouble;

/// Made as `requirements.in` says.
const LOCK: &str = include_str!("requirements.lock");

/// How the lines begin of which pip has one or two for each package.
const PIP_SAYS: [&str; 5] = [
    "Collecting ",
    " ",
    "Ignoring ",
    "Looking in ",
    "Using cached ",
];

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
    let create = PythonEnv::create(&path)
        .requirements(LOCK)
        .progress(|line| {
            if !PIP_SAYS.iter().any(|begin| line.starts_with(begin)) {
                eprintln!("{line}");
            }
        });
    let env = create.run().await.map_err(|error| {
        format!(
            "nothing was measured, as the packages of the comparison could not be installed into \
             {}: {error}",
            path.display()
        )
    })?;
    Ok(env.prefix().to_path_buf())
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
