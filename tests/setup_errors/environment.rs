//! Mistakes with Python's environment and the start of a host.

use std::{fs, path::Path, time::Duration};

use tempfile::tempdir;
use tower_dspy::{Host, doctor::Doctor};

use crate::{
    page::{found, says},
    support::{own_process, venv},
};

#[tokio::test]
async fn variables_that_change_python() {
    let name = "environment::variables_that_change_python";
    let folder = tempdir().unwrap();
    let set = [
        ("PYTHONHOME", "/no/such/python"),
        ("PYTHONPATH", "/no/such/folder"),
    ];
    if own_process(name, &set, folder.path()).await {
        return;
    }
    let diagnosis = Doctor::new().run().await;
    found("pythonhome", &diagnosis);
    found("pythonpath", &diagnosis);
}

#[tokio::test]
async fn a_pythonhome_with_an_embedded_host() {
    let name = "environment::a_pythonhome_with_an_embedded_host";
    let folder = tempdir().unwrap();
    if own_process(name, &[("PYTHONHOME", "/no/such/python")], folder.path()).await {
        return;
    }
    let settings = Host::embedded();
    says(
        "pythonhome-embedded",
        settings.clone().start().await.unwrap_err(),
    );
    let doctor = Doctor::new().embedded(settings);
    found("pythonhome-embedded", &doctor.run().await);
}

/// The loader takes it, as its folder comes before the run path of these tests.
#[tokio::test]
async fn another_libpython_than_that_of_the_build() {
    let name = "environment::another_libpython_than_that_of_the_build";
    let folder = tempdir().unwrap();
    // A libpython of this test's own, unless this is the process that has taken one.
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let lines = maps.lines().filter_map(|line| line.split_once('/'));
    let mut libraries = lines.map(|(_, path)| Path::new("/").join(path));
    let libpython = libraries.find(|path| path.to_string_lossy().contains("/libpython3."));
    let libpython = libpython.expect("a shared libpython");
    let copy = folder.path().join(libpython.file_name().unwrap());
    fs::copy(&libpython, copy).unwrap();
    let path = folder.path().to_string_lossy();
    if own_process(name, &[("LD_LIBRARY_PATH", &path)], folder.path()).await {
        return;
    }
    let settings = Host::embedded();
    says(
        "another-libpython",
        settings.clone().start().await.unwrap_err(),
    );
    let doctor = Doctor::new().embedded(settings);
    found("another-libpython", &doctor.run().await);
}

#[tokio::test]
async fn a_file_that_is_called_like_a_package() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("openai.py"), "").unwrap();
    let settings = Host::workers(1)
        .venv(venv().await)
        .python_path(folder.path());
    let diagnosis = Doctor::new().workers(settings).run().await;
    found("hidden-package", &diagnosis);
    assert!(diagnosis.is_well(), "{diagnosis}");
}

#[tokio::test]
async fn an_embedded_host_that_is_started_twice() {
    let name = "environment::an_embedded_host_that_is_started_twice";
    let venv = venv().await;
    let folder = tempdir().unwrap();
    let path = venv.to_string_lossy();
    if own_process(name, &[("VIRTUAL_ENV", &path)], folder.path()).await {
        return;
    }
    let settings = Host::embedded();
    let doctor = |settings| Doctor::new().embedded(settings).run();
    let well = doctor(settings.clone()).await;
    assert!(well.is_well(), "{well}");
    let other = settings.clone().sync_threads(3);
    says(
        "two-embedded-hosts",
        other.clone().start().await.unwrap_err(),
    );
    found("two-embedded-hosts", &doctor(other).await);
    let host = well.host().expect("a host");
    host.stop(Duration::ZERO).await;
    says(
        "embedded-again",
        settings.clone().start().await.unwrap_err(),
    );
    found("embedded-again", &doctor(settings).await);
}

#[tokio::test]
async fn a_start_with_too_little_time() {
    let settings = Host::workers(1)
        .venv(venv().await)
        .start_limit(Duration::ZERO);
    found("start-limit", &Doctor::new().workers(settings).run().await);
}
