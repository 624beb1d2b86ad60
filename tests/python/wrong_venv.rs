//! A venv that does not fit, and the error with the command to run.

use std::{fs, os::unix::fs::symlink};

use tempfile::tempdir;
use tower_dspy::{Host, StartError, host::env::EnvError};

use crate::support::{ask, own_process, question, start};
use tower::ServiceExt;

fn command(error: &StartError) -> String {
    let text = error.to_string();
    assert!(
        ["-m venv", "-m pip", "uv "]
            .iter()
            .any(|tool| text.contains(tool)),
        "{text}"
    );
    text
}

#[tokio::test]
async fn the_error_for_a_missing_or_mismatched_venv_gives_the_command_to_run() {
    let name = "wrong_venv::the_error_for_a_missing_or_mismatched_venv_gives_the_command_to_run";
    if own_process(name).await.is_some() {
        return;
    }
    let folder = tempdir().unwrap();
    let missing = folder.path().join("missing");
    let error = Host::embedded().venv(&missing).start().await.unwrap_err();
    assert!(command(&error).contains(&*missing.to_string_lossy()));

    let old = folder.path().join("old");
    fs::create_dir_all(old.join("bin")).unwrap();
    symlink("/bin/true", old.join("bin/python")).unwrap();
    fs::write(old.join("pyvenv.cfg"), "home = /usr/bin\nversion = 3.8.1\n").unwrap();
    let error = Host::embedded().venv(&old).start().await.unwrap_err();
    assert!(command(&error).contains("3.8"), "{error}");
    assert!(
        matches!(error, StartError::Env(EnvError::OtherVersion { .. })),
        "{error:?}"
    );

    // A start that failed before there was an interpreter spoils none that comes after.
    let host = start().await;
    question(&host, "after failed starts")
        .await
        .oneshot(ask("?"))
        .await
        .unwrap();
}
