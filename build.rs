//! Finds the Python that pyo3 links against, for the run paths and the set-up messages.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "python")]
    python::link();
}

#[cfg(feature = "python")]
mod python {
    use std::process::Command;

    /// Asks the interpreter what pyo3's configuration leaves out. A venv may be thrown away after
    /// the build, so it is the interpreter under it that is remembered.
    const ASK: &str = "import sys; \
        print('.'.join(map(str, sys.version_info[:3]))); \
        print(sys.base_prefix); \
        print(getattr(sys, '_base_executable', None) or sys.executable)";

    pub(crate) fn link() {
        pyo3_build_config::add_libpython_rpath_link_args();
        let python = pyo3_build_config::get();
        // A dependent binary's build script reads this as DEP_TOWER_DSPY_PYTHON_LIBDIR.
        println!(
            "cargo::metadata=libdir={}",
            python.lib_dir().unwrap_or_default()
        );

        // No interpreter is known when pyo3 was configured by hand; the library says so when it
        // is asked to find or make a venv.
        let Some(executable) = python.executable() else {
            return;
        };
        println!("cargo::rerun-if-changed={executable}");
        println!("cargo::rustc-env=TOWER_DSPY_BUILD_PYTHON={executable}");

        // Documentation is built where no program will run.
        if std::env::var_os("DOCS_RS").is_none() {
            let found = python.version();
            if (found.major, found.minor) < (3, 11) {
                refuse(executable, &format!("is Python {found}"));
            }
            if !python.shared() {
                refuse(executable, "was built without a shared libpython");
            }
        }

        let Some(answer) = ask(executable) else {
            println!(
                "cargo::warning=`{executable}` does not run: venvs can be neither checked nor made"
            );
            return;
        };
        let names = ["VERSION", "PREFIX", "BASE"];
        for (name, value) in names.into_iter().zip(answer.lines()) {
            println!("cargo::rustc-env=TOWER_DSPY_BUILD_PYTHON_{name}={value}");
        }
    }

    fn ask(executable: &str) -> Option<String> {
        // -I: neither PYTHONHOME nor the working directory may change the answer.
        let output = Command::new(executable)
            .args(["-I", "-c", ASK])
            .output()
            .ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8(output.stdout).ok())?
    }

    fn refuse(executable: &str, why: &str) {
        println!(
            "cargo::error=tower-dspy needs Python 3.11 or newer with a shared libpython, but \
             `{executable}` {why}. Name another one and build again: \
             PYO3_PYTHON=/path/to/python3.11 cargo build"
        );
    }
}
