//! Mistakes of the build.

use std::process::Command;

use tower_dspy::host::env::{EnvError, LinkedPython, PythonEnv};

use crate::page::says;

#[test]
fn a_python_that_is_too_old() {
    let old =
        LinkedPython::new("3.10.13", "/opt/python").with_interpreter("/opt/python/bin/python3");
    let error = PythonEnv::check("/no/such/venv", &old).unwrap_err();
    says("python-too-old", error);
}

/// The build script ends a build with this message.
#[test]
fn a_python_without_a_shared_libpython() {
    let script = include_str!("../../build.rs").replace(" \\\n", "");
    let words: Vec<_> = script.split_whitespace().collect();
    says("static-libpython", words.join(" "));
}

#[test]
fn a_build_that_knows_no_python() {
    says("unknown-python", EnvError::NoBuildPython);
}

/// The loader looks for libpython in the system's folders alone.
#[test]
fn a_binary_without_a_run_path() {
    let folder = tempfile::tempdir().unwrap();
    let linked = LinkedPython::build_time().unwrap();
    let (source, binary) = (folder.path().join("main.c"), folder.path().join("main"));
    std::fs::write(
        &source,
        "int Py_IsInitialized(void); int main(void) { return Py_IsInitialized(); }",
    )
    .unwrap();
    // As the linker does it: the name of a library that is nowhere to be found later.
    let lib = folder.path().join("lib");
    std::fs::create_dir(&lib).unwrap();
    let name = format!("libpython{}.so", linked.short_version());
    let version = format!("-Wl,-soname,{name}.no-run-path");
    let stub = folder.path().join("stub.c");
    std::fs::write(&stub, "int Py_IsInitialized(void) { return 0; }").unwrap();
    let run = |command: &mut Command| {
        let status = command
            .status()
            .expect("a C compiler, which Rust's linker is");
        assert!(status.success());
    };
    run(Command::new("cc")
        .args(["-shared", "-o"])
        .arg(lib.join(&name))
        .arg(&stub)
        .arg(version));
    let library = format!("-lpython{}", linked.short_version());
    run(Command::new("cc")
        .arg(&source)
        .arg("-o")
        .arg(&binary)
        .arg("-L")
        .arg(&lib)
        .arg(library));
    let output = Command::new(&binary)
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap();
    assert!(!output.status.success());
    says("no-run-path", String::from_utf8_lossy(&output.stderr));
}
