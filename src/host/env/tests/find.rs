use std::{fs, path::Path};

use super::{Machine, assert_error, install_dspy, kind, needs};
use crate::host::env::{
    EnvError, LinkedPython, Origin, PythonEnv,
    find::{self, Surroundings},
};

/// Surroundings in which every place holds a venv that fits.
fn everywhere(machine: &Machine) -> Surroundings {
    fs::create_dir_all(machine.path("project/src")).unwrap();
    machine.venv("project/.venv");
    Surroundings {
        virtual_env: Some(machine.venv("activated")),
        working_dir: Some(machine.path("project/src")),
        pyo3_python: Some(machine.venv("pyo3").join("bin/python")),
        build_python: Some(machine.venv("build").join("bin/python")),
    }
}

fn find(
    explicit: Option<&Path>,
    around: &Surroundings,
    linked: &LinkedPython,
) -> Result<PythonEnv, EnvError> {
    find::find(explicit, around, &needs(linked))
}

#[track_caller]
fn found(machine: &Machine, explicit: Option<&Path>, around: &Surroundings) -> String {
    let env = find(explicit, around, &machine.linked).unwrap();
    let place = env.prefix().strip_prefix(machine.root.path()).unwrap();
    place.to_str().unwrap().to_owned()
}

#[test]
fn the_order() {
    let machine = Machine::new();
    let explicit = machine.venv("explicit");
    let mut around = everywhere(&machine);
    assert_eq!(found(&machine, Some(&explicit), &around), "explicit");
    assert_eq!(found(&machine, None, &around), "activated");
    around.virtual_env = None;
    assert_eq!(found(&machine, None, &around), "project/.venv");
    machine.venv("project/src/.venv");
    assert_eq!(found(&machine, None, &around), "project/src/.venv");
    around.working_dir = None;
    assert_eq!(found(&machine, None, &around), "pyo3");
    around.pyo3_python = None;
    assert_eq!(found(&machine, None, &around), "build");
}

#[test]
fn what_was_named_is_never_skipped() {
    let machine = Machine::new();
    let mut around = everywhere(&machine);
    let gone = machine.path("gone");
    assert_error(
        find(Some(&gone), &around, &machine.linked),
        kind!(Missing),
        &[gone.to_str().unwrap(), "-m venv"],
    );
    around.virtual_env = Some(gone);
    assert_error(
        find(None, &around, &machine.linked),
        kind!(Missing),
        &["(named by $VIRTUAL_ENV)", "-m venv"],
    );
}

#[test]
fn what_was_come_across_is_skipped_if_it_does_not_fit() {
    let machine = Machine::new();
    let mut around = everywhere(&machine);
    around.virtual_env = None;
    let nearest = machine.path("project/.venv");
    machine.write_config(&nearest, &machine.base("bin"), "version = 3.12.1");
    assert_eq!(found(&machine, None, &around), "pyo3");

    // With nothing left that fits, the first misfit is what the reader has to hear of.
    around.pyo3_python = None;
    let build = machine.path("build");
    fs::remove_dir_all(build.join("lib")).unwrap();
    install_dspy(&build, "2.6.0");
    match find(None, &around, &machine.linked).unwrap_err() {
        EnvError::OtherVersion { venv, found, .. } => {
            assert_eq!(venv.path(), nearest);
            assert_eq!(venv.origin(), Origin::WorkingDir);
            assert_eq!(found, "3.12.1");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_to_find() {
    let machine = Machine::new();
    let around = Surroundings {
        working_dir: Some(machine.path("project")),
        // An interpreter by its bare name, and one that is in no venv.
        pyo3_python: Some("python3.11".into()),
        build_python: Some(machine.linked.interpreter().to_owned()),
        ..Surroundings::default()
    };
    let venv = machine.path("project/.venv");
    let command = format!(
        "{} -m venv {}",
        machine.linked.interpreter().display(),
        venv.display()
    );
    assert_error(
        find(None, &around, &machine.linked),
        kind!(NotFound),
        &[&command, ".create_venv(\".venv\")"],
    );
}
