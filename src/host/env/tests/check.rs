use std::{fs, os::unix::fs::symlink};

use super::{Machine, assert_error, install_dspy, kind, unpack_dspy};
use crate::host::env::{EnvError, LinkedPython, PythonEnv};

#[test]
fn a_venv_that_fits_says_what_it_is() {
    let machine = Machine::new();
    let venv = machine.venv(".venv");
    let env = machine.check(&venv).unwrap();
    assert_eq!(env.prefix(), venv);
    assert_eq!(env.python(), venv.join("bin/python"));
    assert_eq!(
        env.site_packages(),
        venv.join("lib/python3.11/site-packages")
    );
    assert_eq!(env.dspy_version(), "3.4.1");
}

#[test]
fn versions_are_read_as_the_makers_of_venvs_write_them() {
    let machine = Machine::new();
    let venv = machine.venv(".venv");
    for version in [
        "version_info = 3.11.7",
        "version_info = 3.11.7.final.0",
        "VERSION=3.11.7",
    ] {
        machine.write_config(&venv, &machine.base("bin"), version);
        machine.check(&venv).unwrap();
    }
}

#[test]
fn nothing_there() {
    let machine = Machine::new();
    let venv = machine.path("my project/.venv");
    let command = format!(
        "{} -m venv '{venv}' && '{venv}/bin/python' -m pip install 'dspy>=3.4.0,<3.5'",
        machine.linked.interpreter().display(),
        venv = venv.display(),
    );
    assert_error(machine.check(&venv), kind!(Missing), &[&command]);
}

#[test]
fn a_config_that_cannot_be_read() {
    let machine = Machine::new();
    let venv = machine.path(".venv");
    fs::create_dir_all(venv.join("pyvenv.cfg")).unwrap();
    assert_error(
        machine.check(&venv),
        kind!(Io),
        &["could not read", "pyvenv.cfg", "-m venv --clear"],
    );
}

#[test]
fn another_version() {
    let machine = Machine::new();
    let venv = machine.venv(".venv");
    for version in ["3.12.7", "3.10.7", "3.1.17", "4.11.7", "unknown"] {
        machine.write_config(&venv, &machine.base("bin"), &format!("version = {version}"));
        let command = format!(
            "{} -m venv --clear {}",
            machine.linked.interpreter().display(),
            venv.display()
        );
        assert_error(
            machine.check(&venv),
            kind!(OtherVersion),
            &[version, "3.11.7", &command],
        );
    }
}

#[test]
fn a_patch_release_of_the_same_installation() {
    let machine = Machine::new();
    let venv = machine.venv(".venv");
    for version in ["3.11.6", "3.11.15", "3.11.0rc1"] {
        machine.write_config(&venv, &machine.base("bin"), &format!("version = {version}"));
        let env = machine.check(&venv).unwrap();
        assert_eq!(env.python_version(), version);
    }
}

#[test]
fn another_installation_of_the_same_version() {
    let machine = Machine::new();
    let venv = machine.venv(".venv");
    let other = machine.path("other/bin");
    fs::create_dir_all(&other).unwrap();
    fs::copy(machine.linked.interpreter(), other.join("python3.11")).unwrap();
    for home in [&other, &machine.path("gone/bin")] {
        machine.write_config(&venv, home, "version = 3.11.7");
        assert_error(
            machine.check(&venv),
            kind!(OtherInstallation),
            &[home.to_str().unwrap(), "-m venv --clear"],
        );
    }
}

#[test]
fn other_names_of_the_same_installation() {
    let machine = Machine::new();
    let venv = machine.venv(".venv");
    // As `/bin` is a link to `/usr/bin`,
    let linked_folder = machine.path("bin");
    symlink(machine.base("bin"), &linked_folder).unwrap();
    // and as a folder can hold links to the interpreters of several installations.
    let links = machine.path("links");
    fs::create_dir(&links).unwrap();
    symlink(machine.linked.interpreter(), links.join("python3")).unwrap();
    for home in [linked_folder, links] {
        machine.write_config(&venv, &home, "version = 3.11.7");
        machine.check(&venv).unwrap();
    }
}

#[test]
fn an_interpreter_that_is_gone() {
    let machine = Machine::new();
    let venv = machine.venv(".venv");
    fs::remove_file(venv.join("bin/python")).unwrap();
    symlink(machine.path("gone"), venv.join("bin/python")).unwrap();
    assert_error(
        machine.check(&venv),
        kind!(NoInterpreter),
        &["bin/python", "-m venv --clear"],
    );
}

#[test]
fn no_dspy() {
    let machine = Machine::new();
    let venv = machine.venv(".venv");
    let info = install_dspy(&venv, "3.4.1");
    // Neither what a broken `pip uninstall` leaves, nor a package of a similar name, is it.
    fs::remove_file(info.join("METADATA")).unwrap();
    fs::create_dir(info.with_file_name("dspy_extras-3.4.1.dist-info")).unwrap();
    let python = format!("{}/bin/python", venv.display());
    let install = format!("{python} -m pip install 'dspy>=3.4.0,<3.5'");
    assert_error(
        machine.check(&venv),
        kind!(DspyMissing),
        &[&format!("{python} -m ensurepip && {install}")],
    );
    fs::create_dir(info.with_file_name("pip")).unwrap();
    assert_error(
        machine.check(&venv),
        kind!(DspyMissing),
        &[&format!("Install it: {install}")],
    );
}

#[test]
fn dspy_in_the_python_that_made_the_venv_alone() {
    let machine = Machine::new();
    let venv = machine.venv(".venv");
    fs::remove_dir_all(venv.join("lib")).unwrap();
    install_dspy(machine.linked.base_prefix(), "3.4.2");
    let folder = machine.base("lib/python3.11/site-packages");
    assert_error(
        machine.check(&venv),
        kind!(DspyMissing),
        &[
            &format!("it is in `{}`", folder.display()),
            "-m pip install",
        ],
    );
}

#[test]
fn a_relative_path_names_the_working_directory() {
    let machine = Machine::new();
    let working_dir = std::env::current_dir().unwrap();
    assert_error(
        machine.check("no-such-venv".as_ref()),
        kind!(Missing),
        &[
            working_dir.join("no-such-venv").to_str().unwrap(),
            &format!(
                "relative to the working directory `{}`",
                working_dir.display()
            ),
            ".create_venv(..)",
        ],
    );
}

#[test]
fn an_error_is_readable_as_it_comes_out_of_main() {
    let machine = Machine::new();
    let error = machine.check(&machine.path("gone")).unwrap_err();
    assert_eq!(format!("{error:?}"), error.to_string());
}

#[test]
fn the_version_is_the_one_that_an_import_reports() {
    let machine = Machine::new();
    for (package, left_over) in [("3.4.0", "3.3.0"), ("3.4.1", "9.9"), ("3.4.2", "3.4.1")] {
        let venv = machine.venv(package);
        unpack_dspy(&venv, package);
        let info = install_dspy(&venv, left_over);
        fs::write(info.join("RECORD"), "dspy/__init__.py,,0\n").unwrap();
        let env = machine.check(&venv).unwrap();
        assert_eq!(env.dspy_version(), package);
    }
    let venv = machine.venv(".venv");
    unpack_dspy(&venv, "3.3.0");
    assert_error(
        machine.check(&venv),
        kind!(DspyUnsupported),
        &["3.3.0", "pip install 'dspy>=3.4.0,<3.5'"],
    );
}

#[test]
fn where_the_package_does_not_say_its_version_its_own_metadata_does() {
    let machine = Machine::new();
    let venv = machine.venv(".venv");
    unpack_dspy(&venv, "");
    // The record of the package, beside one of an installation elsewhere and half a folder.
    let info = install_dspy(&venv, "3.4.3");
    fs::write(info.join("RECORD"), "dspy/__init__.py,,0\n").unwrap();
    let bare = install_dspy(&venv, "3.4.4");
    fs::remove_file(bare.join("RECORD")).unwrap();
    let env = machine.check(&venv).unwrap();
    assert_eq!(env.dspy_version(), "3.4.3");
    // With the package gone, its record is a leftover.
    fs::remove_dir_all(info.with_file_name("dspy")).unwrap();
    let env = machine.check(&venv).unwrap();
    assert_eq!(env.dspy_version(), "3.4.1");
}

#[test]
fn dspy_of_the_base_installation_counts_where_the_venv_lets_it_in() {
    let machine = Machine::new();
    let venv = machine.venv(".venv");
    fs::remove_dir_all(venv.join("lib")).unwrap();
    install_dspy(machine.linked.base_prefix(), "3.4.2");
    machine.check(&venv).unwrap_err();
    let config = fs::read_to_string(venv.join("pyvenv.cfg")).unwrap();
    fs::write(venv.join("pyvenv.cfg"), config.replace("false", "true")).unwrap();
    let env = machine.check(&venv).unwrap();
    assert_eq!(env.dspy_version(), "3.4.2");
}

#[test]
fn an_unsupported_dspy() {
    let machine = Machine::new();
    for (version, fits) in [
        ("3.3.9", false),
        ("3.4.0", true),
        ("3.4.1", true),
        ("3.4.12", true),
        ("3.5.0b1", false),
        ("2.6.27", false),
        ("4", false),
    ] {
        let venv = machine.venv(version);
        fs::remove_dir_all(venv.join("lib")).unwrap();
        install_dspy(&venv, version);
        let checked = machine.check(&venv);
        if fits {
            assert_eq!(checked.unwrap().dspy_version(), version);
        } else {
            assert_error(
                checked,
                kind!(DspyUnsupported),
                &[version, "pip install 'dspy>=3.4.0,<3.5'"],
            );
        }
    }
}

#[test]
fn an_old_python() {
    let machine = Machine::new();
    let venv = machine.venv(".venv");
    let linked = LinkedPython::new("3.10.13", machine.linked.base_prefix());
    assert_error(
        PythonEnv::check(&venv, &linked),
        kind!(PythonTooOld),
        &["3.10.13", "bin/python3.10", "PYO3_PYTHON="],
    );
}

#[test]
fn a_build_that_knows_no_python() {
    assert_error(
        Err::<(), _>(EnvError::NoBuildPython),
        kind!(NoBuildPython),
        &["PYO3_PYTHON=/path/to/python3.11 cargo build"],
    );
}

// A build without pyo3 links to no Python, and so knows none.
#[cfg(feature = "python")]
#[test]
fn the_python_of_the_build_is_known() {
    let linked = LinkedPython::build_time().unwrap();
    assert!(linked.interpreter().is_file(), "{linked:?}");
    assert!(linked.base_prefix().is_dir(), "{linked:?}");
    assert!(linked.version().starts_with(linked.short_version()));
}
