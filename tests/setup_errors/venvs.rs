//! Mistakes with the venv. They show in its files, before any Python starts.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::tempdir;
use tower_dspy::{
    Host, StartError,
    doctor::{Diagnosis, Doctor},
    host::env::{EnvError, LinkedPython, PythonEnv},
};

use crate::{
    page::{found, says},
    support::own_process,
};

/// A venv of the linked Python, without packages.
fn venv(path: &Path) -> PathBuf {
    let linked = LinkedPython::build_time().unwrap();
    let home = linked.base_prefix().join("bin");
    made_by(path, linked.version(), &home);
    symlink(linked.interpreter(), path.join("bin/python")).unwrap();
    let packages = format!("lib/python{}/site-packages", linked.short_version());
    let packages = path.join(packages);
    fs::create_dir_all(&packages).unwrap();
    packages
}

/// The configuration of a venv that this Python made.
fn made_by(path: &Path, version: &str, home: &Path) {
    fs::create_dir_all(path.join("bin")).unwrap();
    let config = format!("home = {}\nversion = {version}\n", home.display());
    fs::write(path.join("pyvenv.cfg"), config).unwrap();
}

/// Starts an embedded host with the venv, which fails before there is an interpreter.
async fn embedded(key: &str, path: &Path) {
    let settings = Host::embedded().venv(path);
    let error = settings.clone().start().await.unwrap_err();
    assert!(matches!(error, StartError::Env(_)), "{error}");
    says(key, &error);
    found(key, &Doctor::new().embedded(settings).run().await);
}

/// Starts workers with the venv.
async fn workers(key: &str, path: &Path) {
    let settings = Host::workers(1).venv(path);
    says(key, settings.clone().start().await.unwrap_err());
    found(key, &Doctor::new().workers(settings).run().await);
}

#[tokio::test]
async fn a_venv_that_is_not_there() {
    let folder = tempdir().unwrap();
    embedded("missing-venv", &folder.path().join("venv")).await;
    workers("missing-venv", &folder.path().join("venv")).await;
}

#[tokio::test]
async fn a_folder_that_is_no_venv() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("main.py"), "").unwrap();
    embedded("not-a-venv", folder.path()).await;
    workers("not-a-venv", folder.path()).await;
}

#[tokio::test]
async fn what_is_taken_for_a_venv() {
    let folder = tempdir().unwrap();
    let (src, there) = (folder.path().join("src"), folder.path().join(".venv"));
    fs::create_dir(&src).unwrap();
    fs::write(src.join("main.rs"), "").unwrap();
    venv(&there);
    for (key, path) in [
        ("folder-of-a-project", src),
        ("interpreter-of-a-venv", there.join("bin/python")),
    ] {
        embedded(key, &path).await;
        workers(key, &path).await;
    }

    let folder = tempdir().unwrap();
    let conda = folder.path().join("conda");
    fs::create_dir_all(conda.join("conda-meta")).unwrap();
    embedded("conda", &conda).await;
    workers("conda", &conda).await;
}

#[tokio::test]
async fn a_venv_that_is_not_finished() {
    let folder = tempdir().unwrap();
    venv(folder.path());
    fs::write(folder.path().join("tower-dspy.lock.part"), "").unwrap();
    workers("unfinished-venv", folder.path()).await;
}

#[tokio::test]
async fn a_venv_of_another_python() {
    let folder = tempdir().unwrap();
    let other = folder.path().join("3.8");
    made_by(&other, "3.8.1", Path::new("/usr/bin"));
    embedded("venv-of-another-version", &other).await;

    let linked = LinkedPython::build_time().unwrap();
    let other = folder.path().join("another");
    made_by(&other, linked.version(), &folder.path().join("bin"));
    embedded("venv-of-another-installation", &other).await;
}

#[tokio::test]
async fn a_venv_of_a_python_that_workers_cannot_run() {
    let folder = tempdir().unwrap();
    made_by(folder.path(), "3.10.13", Path::new("/usr/bin"));
    workers("venv-of-an-old-python", folder.path()).await;
}

#[tokio::test]
async fn no_python_to_make_a_venv_with() {
    let name = "venvs::no_python_to_make_a_venv_with";
    let folder = tempdir().unwrap();
    let path = folder.path().to_string_lossy();
    if own_process(name, &[("PATH", &path)], folder.path()).await {
        return;
    }
    let settings = Host::workers(1).create_venv("venv");
    says("no-python", settings.clone().start().await.unwrap_err());
    found("no-python", &Doctor::new().workers(settings).run().await);
}

#[tokio::test]
async fn a_venv_that_has_lost_its_interpreter() {
    let folder = tempdir().unwrap();
    venv(folder.path());
    fs::remove_file(folder.path().join("bin/python")).unwrap();
    embedded("lost-interpreter", folder.path()).await;
    workers("lost-interpreter", folder.path()).await;
}

#[tokio::test]
async fn a_venv_without_a_dspy_that_fits() {
    let folder = tempdir().unwrap();
    let packages = venv(folder.path());
    embedded("no-dspy", folder.path()).await;
    workers("no-dspy", folder.path()).await;

    fs::create_dir_all(packages.join("dspy")).unwrap();
    let metadata = packages.join("dspy/__metadata__.py");
    fs::write(metadata, "__version__ = \"2.6.0\"\n").unwrap();
    workers("unsupported-dspy", folder.path()).await;
}

async fn diagnosis() -> Diagnosis {
    Doctor::new().workers(Host::workers(1)).run().await
}

#[tokio::test]
async fn no_venv_in_reach() {
    let name = "venvs::no_venv_in_reach";
    let folder = tempdir().unwrap();
    if own_process(name, &[("PYO3_PYTHON", "")], folder.path()).await {
        return;
    }
    says("no-venv", Host::workers(1).start().await.unwrap_err());
    found("no-venv", &diagnosis().await);
}

#[tokio::test]
async fn a_venv_of_the_environment_that_is_gone() {
    let name = "venvs::a_venv_of_the_environment_that_is_gone";
    let folder = tempdir().unwrap();
    if own_process(name, &[("VIRTUAL_ENV", "/no/such/venv")], folder.path()).await {
        return;
    }
    says(
        "wrong-virtual-env",
        Host::workers(1).start().await.unwrap_err(),
    );
    found("wrong-virtual-env", &diagnosis().await);
}

fn not_made_by(interpreter: &Path) -> EnvError {
    let folder = tempdir().unwrap();
    let linked = LinkedPython::build_time().unwrap();
    let create = PythonEnv::create(folder.path().join("venv"));
    let create = create.linked(linked.with_interpreter(interpreter));
    create.run_blocking().unwrap_err()
}

#[test]
fn an_interpreter_that_makes_no_venv() {
    says("venv-not-made", not_made_by(Path::new("/bin/false")));
}

/// As that of Debian and Ubuntu, whose modules for venvs are in a package of their own.
#[test]
fn an_interpreter_without_ensurepip() {
    let folder = tempdir().unwrap();
    let python = folder.path().join("python3");
    let script = "#!/bin/sh\n\
                  case \"$*\" in *venv*) echo 'ensurepip is not available'; exit 1;; esac\n\
                  echo 3.11.2\n";
    // A child process writes the script. If this process wrote it, a process that another test forks at
    // that moment could hold the file open for writing, and the script could not be run.
    let write = r#"printf %s "$1" >"$0" && chmod 755 "$0""#;
    let mut shell = Command::new("/bin/sh");
    let written = shell.args(["-c", write]).arg(&python).arg(script).status();
    assert!(written.unwrap().success());
    says("no-ensurepip", not_made_by(&python));
}
