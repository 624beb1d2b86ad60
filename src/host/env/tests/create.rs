use std::{
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, mpsc},
    thread,
};

use super::{Machine, assert_error, kind, needs, write_executable};
use crate::host::env::{Create, EnvError, PythonEnv};

const LOCK: &str = "dspy==3.4.1 \\\n    --hash=sha256:00\n";
const NEWER_LOCK: &str = "dspy==3.4.2 \\\n    --hash=sha256:11\n";

fn create(machine: &Machine, venv: &Path) -> Create {
    let mut create = PythonEnv::create(venv).requirements(LOCK);
    create.base = Some(needs(&machine.linked));
    create
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
        machine.check(&venv).unwrap(),
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
    assert_eq!(env, machine.check(&venv).unwrap());
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
        machine.check(&venv),
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
    machine.check(&venv).unwrap();
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
            "apt-get install python3.11-venv",
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
        PythonEnv::create(machine.path(".venv"))
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
fn a_host_keeps_a_venv_that_fits_and_makes_one_that_does_not() {
    let machine = Machine::new();
    let venv = machine.path(".venv");
    let of_host = |lock| create(&machine, &venv).requirements(lock).keep_fitting();
    of_host(LOCK).run_blocking().unwrap();
    let calls = machine.calls();

    let kept = of_host(NEWER_LOCK).run_blocking().unwrap();
    assert_eq!(kept.dspy_version(), "3.4.1");
    assert_eq!(machine.calls(), calls, "no command ran");
    assert_eq!(fs::read_to_string(venv.join(".gitignore")).unwrap(), "*\n");

    fs::remove_file(venv.join("bin/python")).unwrap();
    let made = of_host(NEWER_LOCK).run_blocking().unwrap();
    assert_eq!(made.dspy_version(), "3.4.2");
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
        &[&format!("`.venv({:?})`", folder.join(".venv"))],
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

/// `uv venv .. INTERPRETER VENV` and `uv pip install .. -r LOCK`.
const UV: &str = r#"#!/bin/sh
base=@BASE@
echo "uv $1" >>"$base/calls"
if [ -e "$base/fail-uv" ]; then echo "no route to host"; exit 2; fi
for last in "$@"; do :; done
case "$1" in
venv) "$5" -I -m venv "$last" && rmdir "$last/lib/python3.11/site-packages/pip" ;;
pip) exec "$base/bin/python3.11" -I -m pip install -r "$last" ;;
esac
"#;

fn create_by_uv(machine: &Machine, venv: &Path) -> Create {
    let uv = machine.path("uv");
    let base = machine.linked.base_prefix().to_str().unwrap();
    write_executable(&uv, &UV.replace("@BASE@", base));
    let mut create = create(machine, venv);
    create.base.as_mut().unwrap().uv = Some(uv);
    create
}

#[test]
fn uv_does_it_where_it_is_installed() {
    let machine = Machine::new();
    let venv = machine.path(".venv");
    create_by_uv(&machine, &venv).run_blocking().unwrap();
    assert_eq!(machine.calls(), ["uv venv", "venv", "uv pip", "pip"]);
    let newer = create_by_uv(&machine, &venv).requirements(NEWER_LOCK);
    assert_eq!(newer.run_blocking().unwrap().dspy_version(), "3.4.2");
    assert_eq!(machine.calls()[4..], ["uv pip", "pip"]);
}

#[test]
fn pip_does_it_where_uv_fails() {
    let machine = Machine::new();
    let venv = machine.path(".venv");
    fs::write(machine.base("fail-uv"), "").unwrap();
    let (says, heard) = mpsc::channel();
    create_by_uv(&machine, &venv)
        .progress(move |line| says.send(line.to_owned()).unwrap())
        .run_blocking()
        .unwrap();
    assert_eq!(machine.calls(), ["uv venv", "venv", "pip"]);
    let lines: Vec<_> = heard.iter().collect();
    assert!(
        lines.iter().any(|line| line.contains("as uv failed")),
        "{lines:?}"
    );
    // An update of a venv without pip, as uv makes it.
    fs::remove_dir(venv.join("lib/python3.11/site-packages/pip")).unwrap();
    let newer = create_by_uv(&machine, &venv).requirements(NEWER_LOCK);
    newer.run_blocking().unwrap();
    assert_eq!(machine.calls()[3..], ["uv pip", "ensurepip", "pip"]);
}

#[test]
fn a_full_disk() {
    let machine = Machine::new();
    fs::write(machine.base("full-disk"), "").unwrap();
    assert_error(
        create(&machine, &machine.path(".venv")).run_blocking(),
        kind!(CreateFailed),
        &[
            "The disk is full",
            "$TMPDIR",
            "[Errno 28] No space left on device",
        ],
    );
}

#[test]
fn a_folder_that_may_not_be_written_to() {
    for errno in [libc_errno::EACCES, libc_errno::EROFS] {
        let refused = || std::io::Error::from_raw_os_error(errno);
        let lock = EnvError::Lock {
            lock: "/srv/.venv.lock".into(),
            source: refused(),
            command: "python3 -m venv /srv/.venv".into(),
        };
        let io = EnvError::Io {
            action: "make the folder",
            path: "/srv/.venv".into(),
            source: refused(),
            command: "python3 -m venv /srv/.venv".into(),
        };
        for error in [lock, io] {
            let message = error.to_string();
            for part in [
                "/srv/.venv",
                "a folder that this user may write to",
                "-m venv",
            ] {
                assert!(message.contains(part), "no `{part}` in: {message}");
            }
        }
    }
}

/// Numbers of the system's errors, on Linux.
mod libc_errno {
    pub(super) const EACCES: i32 = 13;
    pub(super) const EROFS: i32 = 30;
}
