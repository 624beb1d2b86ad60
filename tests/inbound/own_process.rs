//! The run of one test in a child process of the same binary.

use std::{env, process::Stdio, time::Duration};

use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// Set in a process that runs one test.
const ALONE: &str = "TOWER_DSPY_TEST_ALONE";

/// Starts the test `name` again in a process of its own; `None` in that process, which is to go on.
pub(crate) fn again(name: &str) -> Option<Child> {
    if env::var_os(ALONE).is_some_and(|alone| alone == name) {
        return None;
    }
    let child = Command::new(env::current_exe().expect("a path"))
        .args(["--exact", name, "--nocapture", "--include-ignored"])
        .env(ALONE, name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    Some(child.expect("a process"))
}

/// Waits for its end, and requires that the test passed there.
pub(crate) async fn passes(child: Child) {
    let output = timeout(Duration::from_secs(300), child.wait_with_output()).await;
    let output = output.expect("an end in time").expect("a process");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{said}", output.status);
    // A name that is misspelt would run nothing, and pass.
    assert!(said.contains("test result: ok. 1 passed"), "{said}");
}
