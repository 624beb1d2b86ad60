// For the feature `embedded` alone: where the binary finds libpython when it is started without cargo.
// Without that feature, delete this file.
fn main() {
    if std::env::var_os("CARGO_FEATURE_EMBEDDED").is_some() {
        let libdir = std::env::var("DEP_TOWER_DSPY_PYTHON_LIBDIR")
            .expect("a direct dependency on tower-dspy, with feature `python`");
        println!("cargo::rustc-link-arg=-Wl,-rpath,{libdir}");
    }
}
