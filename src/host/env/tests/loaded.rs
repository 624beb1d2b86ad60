//! The libpython that was loaded, and the standard library that it is to use.

use std::{ffi::OsStr, fs, os::unix::fs::symlink, path::Path};

use super::{Machine, assert_error, kind};
use crate::host::env::{EnvError, LinkedPython, libpython, python_home};

const NAME: &str = "libpython3.11.so.1.0";

fn check(loaded: &Path, libdir: &Path, library_path: &Path) -> Result<(), EnvError> {
    let maps = format!(
        "55d0-55d1 r-xp 00000000 fe:00 18713    /usr/bin/service\n\
         7f02-7f03 r--p 00000000 fe:00 18711    /usr/lib/libpython3.so\n\
         7fd4-7fd5 r--p 00000000 fe:00 18714    {}\n\
         7ffe-7fff rw-p 00000000 00:00 0        [stack]\n",
        loaded.display()
    );
    libpython::check_among(&maps, libdir, library_path.as_os_str(), "3.11")
}

#[test]
fn another_libpython_is_named_with_the_lines_that_mend_it() {
    let machine = Machine::new();
    let (other, libdir) = (machine.path("other"), machine.path("libdir"));
    for folder in [&other, &libdir] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join(NAME), "").unwrap();
    }
    let (loaded, meant) = (other.join(NAME), libdir.join(NAME));
    let named = [loaded.to_str().unwrap(), meant.to_str().unwrap()];

    let by_variable = check(&loaded, &libdir, &other);
    let mends = format!("LD_LIBRARY_PATH={}:$LD_LIBRARY_PATH", libdir.display());
    let parts = ["$LD_LIBRARY_PATH names its folder. Unset it", &mends];
    assert_error(by_variable, kind!(OtherLibpython), &[named, parts].concat());

    let without_run_path = check(&loaded, &libdir, Path::new("/elsewhere"));
    let parts = [
        "std::env::var(\"DEP_TOWER_DSPY_PYTHON_LIBDIR\")",
        "println!(\"cargo::rustc-link-arg=-Wl,-rpath,{libdir}\");",
    ];
    let message = without_run_path.as_ref().unwrap_err().to_string();
    assert!(!message.contains("venv"), "{message}");
    assert_error(
        without_run_path,
        kind!(OtherLibpython),
        &[named, parts].concat(),
    );
}

#[test]
fn the_libpython_of_the_build_has_many_names() {
    let machine = Machine::new();
    let (libdir, linked) = (machine.path("libdir"), machine.path("linked"));
    fs::create_dir(&libdir).unwrap();
    symlink(&libdir, &linked).unwrap();
    let loaded = libdir.join(NAME);
    // In another image than that of the build, the venv tells whether it fits.
    check(&loaded, &machine.path("gone"), Path::new("")).unwrap();
    fs::write(&loaded, "").unwrap();
    check(&loaded, &libdir, Path::new("")).unwrap();
    check(&loaded, &linked, Path::new("")).unwrap();
    // A static libpython.
    check(Path::new("/usr/lib/libc.so.6"), &libdir, Path::new("")).unwrap();
}

#[test]
fn a_pythonhome_of_another_installation_is_named() {
    let machine = Machine::new();
    let check = |home: &OsStr, linked: &LinkedPython| python_home::check_value(home, linked);
    check("".as_ref(), &machine.linked).unwrap();
    check(machine.linked.base_prefix().as_os_str(), &machine.linked).unwrap();
    for home in [machine.root.path().as_os_str(), "/no/such/folder".as_ref()] {
        assert_error(
            check(home, &machine.linked),
            kind!(PythonHome),
            &[home.to_str().unwrap(), "unset PYTHONHOME"],
        );
    }
}
