//! What the benchmarks of the bridge share.

mod figures;

use std::path::PathBuf;

use tower_dspy::PythonEnv;

pub(crate) use self::figures::{figure, median};

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
