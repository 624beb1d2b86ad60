//! The tour, as a newcomer runs it.

use std::process::{Command, Output};

use tower_dspy::host::env::PythonEnv;

fn run(args: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tower-dspy-tour"))
        .args(args)
        .env_remove("RUST_LOG")
        .output()
        .expect("the tour's binary runs");
    let shown = format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output, shown)
}

/// Makes the venv of the workspace if there is none that fits: the doctor only looks at it.
fn make_venv() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    PythonEnv::create(format!("{root}/.venv"))
        .run_blocking()
        .expect("a venv");
}

#[test]
fn thirteen_scenes_are_ok_and_no_request_is_left_behind() {
    let (output, shown) = run(&[]);
    assert!(output.status.success(), "{shown}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!(
        lines[lines.len() - 2..],
        [
            "figure tour_scenes_ok 13 count",
            "figure tour_orphaned_lm_requests 0 count"
        ],
        "{shown}"
    );
}

#[test]
fn the_doctor_finds_nothing_wrong() {
    make_venv();
    let (output, shown) = run(&["doctor"]);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("all is well"), "{shown}");
}

#[test]
fn the_doctor_names_an_lm_that_is_not_there() {
    make_venv();
    // The discard port: nothing listens there.
    let (output, shown) = run(&["doctor", "--lm", "http://127.0.0.1:9/v1", "--model", "m"]);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains("Is a server listening at"), "{shown}");
}

#[test]
fn what_it_does_not_know_is_an_error_with_the_usage() {
    for args in [
        &["nonsense"][..],
        &["--nonsense"],
        &["--lm", "http://127.0.0.1:9"],
        &["--model", "m"],
    ] {
        let (output, shown) = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {shown}");
        assert!(shown.contains("Usage:"), "{args:?}: {shown}");
    }
    let (output, shown) = run(&["--help"]);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("Usage:"), "{shown}");
}
