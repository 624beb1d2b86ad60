//! Passes the linked libpython's folder on as a run path of this binary.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=DEP_TOWER_DSPY_PYTHON_LIBDIR");
    if let Ok(libdir) = std::env::var("DEP_TOWER_DSPY_PYTHON_LIBDIR")
        && !libdir.is_empty()
    {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{libdir}");
    }
}
