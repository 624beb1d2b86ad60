use std::{
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, mpsc},
    thread,
};

use super::{Machine, assert_error, kind};
use crate::host::env::{Create, PythonEnv};

const LOCK: &str = "dspy==3.4.1 \\\n    --hash=sha256:00\n";
const NEWER_LOCK: &str = "dspy==3.4.2 \\\n    --hash=sha256:11\n";

fn create(machine: &Machine, venv: &Path) -> Create {
    PythonEnv::create(venv)
        .linked(machine.linked.clone())
        .requirements(LOCK)
}

#[test]
fn a_venv_is_made_once() {
    let machine = Machine::new();
    let venv = machine.path("new/.venv");
    let lines = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&lines);
    let env = create(&machine, &venv)
        .progress(move |line| heard.lock().unwrap().push(line.to_owned()))
        .run_blocking()
        .unwrap();
    assert_eq!(env.dspy_version(), "3.4.1");
    let lines = lines.lock().unwrap().join("\n");
    assert!(lines.contains("making a venv at"), "{lines}");
    assert!(
        lines.contains("Successfully installed dspy-3.4.1"),
        "{lines}"
    );

    assert_eq!(create(&machine, &venv).run_blocking().unwrap(), env);
    assert_eq!(
        PythonEnv::check(&venv, &machine.linked).unwrap(),
        env,
        "what was made passes the check"
    );
    assert_eq!(machine.calls(), ["venv", "pip"]);
    assert!(machine.path("new/.venv.lock").exists());
}

#[tokio::test]
async fn the_async_way_makes_the_same() {
    let machine = Machine::new();
    let venv = machine.path(".venv");
    let env = create(&machine, &venv).run().await.unwrap();
    assert_eq!(env, PythonEnv::check(&venv, &machine.linked).unwrap());
}

#[tokio::test]
async fn a_callback_that_panics_is_an_error_and_the_next_creation_starts_over() {
    let machine = Machine::new();
    let venv = machine.path(".venv");
    let panicking = create(&machine, &venv).progress(|_| panic!("a fault of the caller"));
    assert_error(
        panicking.run().await,
        kind!(CreateFailed),
        &["progress callback", "-m venv"],
    );
    create(&machine, &venv).run().await.unwrap();
}

#[test]
fn an_interrupted_creation_is_noticed_and_redone() {
    let machine = Machine::new();
    let venv = machine.path(".venv");
    fs::write(machine.base("fail-pip"), "").unwrap();
    let part = venv.join("tower-dspy.lock.part");
    let command = format!(
        "{}/bin/python -m pip install --require-hashes -r {}",
        venv.display(),
        part.display()
    );
    let failed = create(&machine, &venv).run_blocking();
    assert!(
        !failed.as_ref().unwrap_err().to_string().contains("line 01"),
        "only the last lines are kept"
    );
    assert_error(
        failed,
        kind!(CreateFailed),
        &[
            "`pip install` ended with exit status: 3",
            "line 21\nTHESE PACKAGES DO NOT MATCH THE HASHES",
            &command,
        ],
    );
    assert_error(
        PythonEnv::check(&venv, &machine.linked),
        kind!(Unfinished),
        &["-m venv --clear"],
    );

    let half_installed = venv.join("lib/python3.11/site-packages/half");
    fs::create_dir(&half_installed).unwrap();
    fs::remove_file(machine.base("fail-pip")).unwrap();
    create(&machine, &venv).run_blocking().unwrap();
    assert!(!half_installed.exists(), "made again from nothing");
    assert!(!part.exists());
    assert_eq!(machine.calls(), ["venv", "pip", "venv", "pip"]);
}

#[test]
fn the_command_of_the_error_finishes_what_was_begun() {
    let machine = Machine::new();
    let venv = machine.path(".venv");
    fs::write(machine.base("fail-pip"), "").unwrap();
    let message = create(&machine, &venv)
        .run_blocking()
        .unwrap_err()
        .to_string();
    fs::remove_file(machine.base("fail-pip")).unwrap();
    let (_, command) = message.split_once("by hand: ").unwrap();
    let (command, _) = command.split_once('\n').unwrap();
    let shell = Command::new("/bin/sh")
        .args(["-c", command])
        .output()
        .unwrap();
    assert!(shell.status.success(), "{shell:?}");
    PythonEnv::check(&venv, &machine.linked).unwrap();
}

#[test]
fn a_python_without_venv() {
    let machine = Machine::new();
    fs::write(machine.base("fail-venv"), "").unwrap();
    let venv = machine.path(".venv");
    let command = format!(
        "{} -m venv {} && ",
        machine.linked.interpreter().display(),
        venv.display()
    );
    assert_error(
        create(&machine, &venv).run_blocking(),
        kind!(CreateFailed),
        &[
            "`python -m venv` ended with exit status: 1",
            "ensurepip is not available",
            &command,
        ],
    );
}

#[test]
fn an_interpreter_that_does_not_run() {
    let machine = Machine::new();
    let gone = machine.path("gone");
    let linked = machine.linked.clone().with_interpreter(&gone);
    assert_error(
        create(&machine, &machine.path(".venv"))
            .linked(linked)
            .run_blocking(),
        kind!(CreateFailed),
        &["could not be run with", gone.to_str().unwrap()],
    );
}

#[test]
fn a_changed_lock_is_installed_over_what_is_there() {
    let machine = Machine::new();
    let venv = machine.path(".venv");
    create(&machine, &venv).run_blocking().unwrap();
    let added = venv.join("lib/python3.11/site-packages/added_by_the_user");
    fs::create_dir(&added).unwrap();
    let env = create(&machine, &venv)
        .requirements(NEWER_LOCK)
        .run_blocking()
        .unwrap();
    assert_eq!(env.dspy_version(), "3.4.2");
    assert!(added.exists());
    assert_eq!(machine.calls(), ["venv", "pip", "pip"]);
}

#[test]
fn a_venv_of_ours_that_no_longer_fits_is_made_again() {
    let machine = Machine::new();
    let venv = machine.path(".venv");
    create(&machine, &venv).run_blocking().unwrap();
    machine.write_config(&venv, &machine.base("bin"), "version = 3.10.13");
    create(&machine, &venv).run_blocking().unwrap();
    assert_eq!(machine.calls(), ["venv", "pip", "venv", "pip"]);
}

#[test]
fn what_others_made_is_used_if_it_fits_and_never_changed() {
    let machine = Machine::new();
    let fits = machine.venv("fits");
    create(&machine, &fits).run_blocking().unwrap();

    let other = machine.venv("other");
    machine.write_config(&other, &machine.base("bin"), "version = 3.12.1");
    assert_error(
        create(&machine, &other).run_blocking(),
        kind!(OtherVersion),
        &["-m venv --clear"],
    );

    let folder = machine.path("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("thesis.txt"), "").unwrap();
    assert_error(
        create(&machine, &folder).run_blocking(),
        kind!(NotAVenv),
        &["mv "],
    );
    assert!(folder.join("thesis.txt").exists());
    assert!(machine.calls().is_empty());
}

#[test]
fn an_empty_folder_is_filled() {
    let machine = Machine::new();
    let venv = machine.path(".venv");
    fs::create_dir(&venv).unwrap();
    create(&machine, &venv).run_blocking().unwrap();
}

#[test]
fn a_second_creation_waits_and_finds_it_ready() {
    let machine = Machine::new();
    let venv = machine.path(".venv");
    let gate = machine.base("gate");
    let made = Command::new("mkfifo").arg(&gate).status().unwrap();
    assert!(made.success());

    let (says, heard) = mpsc::channel();
    let spawn = || {
        let says = says.clone();
        let create =
            create(&machine, &venv).progress(move |line| says.send(line.to_owned()).unwrap());
        thread::spawn(move || create.run_blocking())
    };
    let first = spawn();
    assert!(heard.recv().unwrap().starts_with("making a venv"));
    let second = spawn();
    assert!(heard.recv().unwrap().starts_with("waiting for another"));
    fs::write(&gate, "go\n").unwrap();

    let (first, second) = (first.join().unwrap(), second.join().unwrap());
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(machine.calls(), ["venv", "pip"]);
}

#[test]
fn a_lock_file_that_cannot_be_had() {
    let machine = Machine::new();
    fs::create_dir(machine.path(".venv.lock")).unwrap();
    let venv = machine.path(".venv");
    let command = format!(
        "{} -m venv {}",
        machine.linked.interpreter().display(),
        venv.display()
    );
    assert_error(
        create(&machine, &venv).run_blocking(),
        kind!(Lock),
        &[".venv.lock", &command],
    );
}
