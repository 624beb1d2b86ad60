//! What the benchmarks share.

use std::path::PathBuf;

use tower_dspy::PythonEnv;

/// The venv of the workspace, made if there is none.
pub(crate) async fn venv() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let env = PythonEnv::create(root.join(".venv"))
        .progress(|line| eprintln!("{line}"))
        .run()
        .await
        .expect("a venv");
    env.prefix().to_path_buf()
}

/// Prints a figure the way all benchmarks do.
pub(crate) fn figure(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.3} {unit}");
}

/// The middle of some values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
