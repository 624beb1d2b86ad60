//! Finds the Python that pyo3 links against, for the run paths and the set-up messages.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "python")]
    {
        pyo3_build_config::add_libpython_rpath_link_args();
        let python = pyo3_build_config::get();
        println!(
            "cargo::rustc-env=TOWER_DSPY_BUILD_PYTHON={}",
            python.executable().unwrap_or_default()
        );
        // A dependent binary's build script reads these as DEP_TOWER_DSPY_PYTHON_*.
        println!(
            "cargo::metadata=libdir={}",
            python.lib_dir().unwrap_or_default()
        );
    }
}
