//! Venvs for Python in processes of its own.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::{Machine, assert_error, kind, write_executable};
use crate::host::env::{
    EnvError, Origin, PythonEnv, Venv,
    base::{Base, BasePython, Search},
    check, library_path, path_python,
};

/// An interpreter that tells its version when it is asked.
fn python(machine: &Machine, path: &str, version: &str) -> PathBuf {
    let path = machine.path(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let prefix = machine.path("prefix");
    let (prefix, own) = (prefix.display(), path.display());
    write_executable(
        &path,
        &format!("#!/bin/sh\nprintf '{version}\\n{prefix}\\n{own}\\n'\n"),
    );
    path
}

fn folders(machine: &Machine, names: &[&str]) -> OsString {
    env::join_paths(names.iter().map(|name| machine.path(name))).unwrap()
}

/// Any Python, where `PATH` has these folders.
fn any(machine: &Machine, names: &[&str]) -> Base {
    let search = Search::done(path_python::newest(&folders(machine, names)));
    Base {
        python: BasePython::Any(search),
        uv: None,
    }
}

fn check_any(base: &Base, venv: &Path) -> Result<PythonEnv, EnvError> {
    check::check(&Venv::new(venv, Origin::Explicit), base)
}

#[test]
fn the_newest_python_in_path_is_taken_and_shims_that_do_not_run_are_passed_over() {
    let machine = Machine::new();
    // As those of pyenv are, of versions that are not chosen.
    let shim = machine.path("shims/python3.13");
    fs::create_dir_all(shim.parent().unwrap()).unwrap();
    write_executable(&shim, "#!/bin/sh\necho 'command not found' >&2\nexit 127\n");
    python(&machine, "usr/python3", "3.11.2");
    let newest = python(&machine, "usr/python3.12", "3.12.1");
    let found = path_python::newest(&folders(&machine, &["gone", "shims", "usr"])).unwrap();
    assert_eq!(found.interpreter(), newest);
    assert_eq!(found.version(), "3.12.1");
    assert_eq!(found.base_prefix(), machine.path("prefix"));

    let newer = python(&machine, "later/python3.13", "3.13.0");
    let found = path_python::newest(&folders(&machine, &["shims", "usr", "later"])).unwrap();
    assert_eq!(found.interpreter(), newer);
}

#[test]
fn a_venv_is_made_by_the_python_in_path() {
    let machine = Machine::new();
    let venv = machine.path(".venv");
    let mut create = PythonEnv::create(&venv).requirements("dspy==3.4.1\n");
    let mut base = any(&machine, &[]);
    base.python = BasePython::Any(Search::done(Ok(machine.linked.clone())));
    create.base = Some(base);
    let env = create.run_blocking().unwrap();
    assert_eq!(env.python(), venv.join("bin/python"));
    assert_eq!(machine.calls(), ["venv", "pip"]);
}

#[test]
fn no_python_in_path_is_new_enough() {
    let machine = Machine::new();
    let old = python(&machine, "usr/python3", "3.10.13");
    let found = format!("`{}` is Python 3.10.13", old.display());
    for (folder, found) in [("usr", &*found), ("empty", "none of python3.13, ")] {
        let venv = machine.path(".venv");
        let mut create = PythonEnv::create(&venv);
        create.base = Some(any(&machine, &[folder]));
        assert_error(
            create.run_blocking(),
            kind!(NoPython),
            &[venv.to_str().unwrap(), found, "apt-get install python3"],
        );
        assert!(!venv.exists());
    }
}

#[test]
fn any_installation_fits_from_3_11_on() {
    let machine = Machine::new();
    let newer = python(&machine, "usr/python3.12", "3.12.1");
    let base = any(&machine, &["usr"]);
    let venv = machine.venv(".venv");
    check_any(&base, &venv).unwrap();

    machine.write_config(&venv, &machine.base("bin"), "version = 3.10.13");
    assert_error(
        check_any(&base, &venv),
        kind!(VenvTooOld),
        &[
            "is of Python 3.10.13",
            "any Python from 3.11 on",
            &format!("{} -m venv --clear {}", newer.display(), venv.display()),
        ],
    );
}

#[test]
fn a_venv_from_another_machine() {
    let machine = Machine::new();
    let newer = python(&machine, "usr/python3.12", "3.12.1");
    let venv = machine.venv(".venv");
    let gone = machine.path("gone/bin");
    machine.write_config(&venv, &gone, "version = 3.11.7");
    fs::remove_file(venv.join("bin/python")).unwrap();
    symlink(gone.join("python3.11"), venv.join("bin/python")).unwrap();
    assert_error(
        check_any(&any(&machine, &["usr"]), &venv),
        kind!(NoInterpreter),
        &[
            gone.join("python3.11").to_str().unwrap(),
            &format!("{} -m venv --clear", newer.display()),
        ],
    );
}

#[test]
fn child_processes_do_not_look_for_libraries_in_the_folder_of_the_build() {
    let folder = Path::new("/build/libpython");
    let without = |path: &str| library_path::without(path.as_ref(), folder);
    assert_eq!(without("/usr/lib:/opt/lib"), None);
    assert_eq!(without("/build/libpython"), Some("".into()));
    assert_eq!(without("/a:/build/libpython:/b"), Some("/a:/b".into()));
}
