// For the feature `embedded` alone: where the binary finds libpython. Without it, delete this file.
fn main() {
    if let Ok(folder) = std::env::var("DEP_TOWER_DSPY_PYTHON_LIBDIR") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
