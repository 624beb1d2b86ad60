//! Finds the Python that pyo3 links against, for the run paths and the set-up messages.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "python")]
    python::link();
}

#[cfg(feature = "python")]
mod python {
    use std::{
        fmt::Display,
        fs, io,
        os::unix::fs::symlink,
        path::{Path, PathBuf},
        process::Command,
    };

    /// Asks the interpreter what pyo3's configuration leaves out. A venv may be thrown away after
    /// the build, so it is the interpreter under it that is remembered.
    const ASK: &str = "import sys; \
        print('.'.join(map(str, sys.version_info[:3]))); \
        print(sys.base_prefix); \
        print(getattr(sys, '_base_executable', None) or sys.executable)";

    pub(crate) fn link() {
        pyo3_build_config::add_libpython_rpath_link_args();
        let python = pyo3_build_config::get();
        match python.lib_dir() {
            Some(libdir) => {
                // The build script of a direct dependent reads this as
                // DEP_TOWER_DSPY_PYTHON_LIBDIR, for the run path of its programs.
                println!("cargo::metadata=libdir={libdir}");
                println!("cargo::rustc-env=TOWER_DSPY_BUILD_PYTHON_LIBDIR={libdir}");
                if let Err(error) = link_for_cargo_run(Path::new(libdir), &python.version()) {
                    println!(
                        "cargo::warning=`cargo run` may not find the libpython in `{libdir}`: \
                         {error}"
                    );
                }
            }
            // DEP_TOWER_DSPY_PYTHON_LIBDIR is not set either: an empty run path would say nothing.
            None if std::env::var_os("DOCS_RS").is_none() => println!(
                "cargo::warning=the folder of libpython is not known, so programs find it in the \
                 loader's own folders or by LD_LIBRARY_PATH alone; name an interpreter to know \
                 it: PYO3_PYTHON=/path/to/python3.11 cargo build"
            ),
            None => {}
        }

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

    /// Links to libpython in the folder of this build.
    ///
    /// Of the search paths of all build scripts, those within the target folder are put into
    /// LD_LIBRARY_PATH by `cargo run` and `cargo test`. So these need no run path, which only a
    /// direct dependent's build script can set.
    fn link_for_cargo_run(libdir: &Path, version: &impl Display) -> io::Result<()> {
        let folder = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
        let folder = folder.join("libpython");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        // The name that the loader looks for, and no `.so` that the linker would find.
        let name = format!("libpython{version}");
        let mut has_linker_name = false;
        for entry in fs::read_dir(libdir)? {
            let entry = entry?;
            let file = entry.file_name();
            let rest = file.to_str().and_then(|file| file.strip_prefix(&name));
            has_linker_name |= rest.is_some_and(|rest| rest.ends_with(".so"));
            if rest.is_some_and(|rest| rest.contains(".so.")) {
                symlink(entry.path(), folder.join(file))?;
            }
        }
        println!("cargo::rustc-link-search=native={}", folder.display());
        if !has_linker_name {
            println!(
                "cargo::warning=`{}` has no {name}.so, so programs will not link; install it, on \
                 Debian and Ubuntu by `apt-get install libpython{version}-dev`",
                libdir.display()
            );
        }
        Ok(())
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
