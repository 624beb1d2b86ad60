//! One interpreter and one LM for the whole binary.

use std::path::PathBuf;

use tokio::sync::OnceCell;
use tower_dspy::{Host, Lm, PythonEnv, testing::ScriptedLm};

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

/// The process's host: `import dspy` is paid for once.
pub(crate) async fn host() -> Host {
    static HOST: OnceCell<Host> = OnceCell::const_new();
    let host = HOST.get_or_init(|| async {
        let programs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/python/programs");
        Host::embedded()
            .venv(venv().await)
            .python_path(programs)
            .start()
            .await
            .expect("a host")
    });
    host.await.clone()
}

/// The LM server that all tests share; each test has a model of its own there.
pub(crate) async fn lm_server() -> &'static ScriptedLm {
    static LM: OnceCell<ScriptedLm> = OnceCell::const_new();
    LM.get_or_init(|| async { ScriptedLm::start().await.expect("an LM server") })
        .await
}

/// The LM `model` of that server, as a program is given it.
pub(crate) async fn lm(model: &str) -> Lm {
    Lm::new(format!("openai/{model}"))
        .base_url(lm_server().await.base_url())
        .key("test-key")
}
