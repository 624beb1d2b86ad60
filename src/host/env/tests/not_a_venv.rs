use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::{Machine, assert_error, kind};

#[track_caller]
fn assert_remedy(machine: &Machine, path: &Path, reason: &str, remedy: &str) {
    assert_error(machine.check(path), kind!(NotAVenv), &[reason, remedy]);
}

fn folder(machine: &Machine, name: &str) -> PathBuf {
    let folder = machine.path(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The remedy that moves the path aside.
fn moved(path: &Path) -> String {
    format!("mv {path} {path}.old && ", path = path.display())
}

#[test]
fn what_is_or_was_to_be_a_venv_is_moved_aside() {
    let machine = Machine::new();
    let file = machine.path("file");
    fs::write(&file, "").unwrap();
    assert_remedy(&machine, &file, "it is not a folder", &moved(&file));
    let empty = folder(&machine, "empty");
    assert_remedy(&machine, &empty, "it has no pyvenv.cfg", &moved(&empty));
    let broken = folder(&machine, "broken");
    fs::create_dir(broken.join("bin")).unwrap();
    symlink("/gone", broken.join("bin/python")).unwrap();
    assert_remedy(&machine, &broken, "it has no pyvenv.cfg", &moved(&broken));
    let silent = folder(&machine, "silent");
    fs::write(silent.join("pyvenv.cfg"), "home = /usr/bin\n").unwrap();
    assert_remedy(
        &machine,
        &silent,
        "does not say which Python",
        &moved(&silent),
    );
}

#[test]
fn a_folder_of_other_files_is_never_moved() {
    let machine = Machine::new();
    let project = folder(&machine, "project/src");
    fs::write(project.join("main.rs"), "").unwrap();
    let venv = project.join(".venv");
    assert_remedy(
        &machine,
        &project,
        "it has no pyvenv.cfg",
        &format!("Name a venv in it, `.venv({venv:?})`, and make that: "),
    );
    let message = machine.check(&project).unwrap_err().to_string();
    assert!(!message.contains("mv "), "{message}");
}

#[test]
fn a_venv_in_the_folder_or_above_it_is_named() {
    let machine = Machine::new();
    let project = folder(&machine, "project/src");
    fs::write(project.join("main.rs"), "").unwrap();
    let venv = machine.venv("project/.venv");
    let remedy = format!("Name the venv near it: `.venv({venv:?})`");
    assert_remedy(&machine, &project, "it has no pyvenv.cfg", &remedy);
    let parent = machine.path("project");
    assert_remedy(&machine, &parent, "it has no pyvenv.cfg", &remedy);
}

#[test]
fn the_interpreter_of_a_venv() {
    let machine = Machine::new();
    let venv = machine.venv(".venv");
    assert_remedy(
        &machine,
        &venv.join("bin/python"),
        "it is a file in one",
        &format!("Name the folder of the venv: `.venv({venv:?})`"),
    );
}

#[test]
fn an_environment_of_conda() {
    let machine = Machine::new();
    let conda = folder(&machine, "conda");
    fs::create_dir_all(conda.join("conda-meta")).unwrap();
    fs::create_dir_all(conda.join("bin")).unwrap();
    fs::write(conda.join("bin/python"), "").unwrap();
    let venv = conda.join(".venv");
    assert_remedy(
        &machine,
        &conda,
        "it is an environment of conda",
        &format!("Name a venv in it, `.venv({venv:?})`, and make that: "),
    );
}
