//! Gives the binary the folder of libpython as a run path, so that it starts without cargo too.

fn main() {
    let libdir = std::env::var("DEP_TOWER_DSPY_PYTHON_LIBDIR")
        .expect("a direct dependency on tower-dspy, with feature `python`");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{libdir}");
}
