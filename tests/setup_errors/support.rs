//! Hosts, folders of programs, and processes of their own.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{process::Command, sync::OnceCell, time::timeout};
use tower_dspy::{
    Host, Lm,
    doctor::{Diagnosis, Doctor},
    host::env::PythonEnv,
    testing::scripted_lm::ScriptedLm,
};

/// Far beyond what a busy machine needs.
const LIMIT: Duration = Duration::from_secs(300);

/// Set in a process that runs one test.
const ALONE: &str = "TOWER_DSPY_TEST_ALONE";

/// A venv that fits: that of the workspace, made if there is none.
pub(crate) async fn venv() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let env = PythonEnv::create(root.join(".venv")).run().await;
    env.expect("a venv").prefix().to_path_buf()
}

/// The host with one worker that the tests share.
pub(crate) async fn host() -> Host {
    static HOST: OnceCell<(Host, TempDir)> = OnceCell::const_new();
    let started = HOST.get_or_init(|| async {
        let folder = programs();
        let workers = Host::workers(1)
            .venv(venv().await)
            .python_path(folder.path());
        // What a test gives up may take a while to stop on a busy machine.
        let workers = workers.kill_after(LIMIT).retire_after(LIMIT);
        (workers.start().await.expect("a worker"), folder)
    });
    started.await.0.clone()
}

/// A folder with the programs of these tests.
fn programs() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("folder")).expect("a folder");
    for (name, code) in [
        (
            "qa.py",
            "import dspy\n\
             class Program(dspy.Module):\n\
             \x20   def __init__(self):\n\
             \x20       super().__init__()\n\
             \x20       self.answer = dspy.Predict('question -> answer')\n\
             \x20   async def aforward(self, question: str):\n\
             \x20       return await self.answer.acall(question=question)\n\
             class Plain:\n\
             \x20   pass\n\
             class Two(dspy.Module):\n\
             \x20   def __init__(self):\n\
             \x20       super().__init__()\n\
             \x20       self.one = dspy.Predict('question -> answer')\n\
             \x20       self.two = dspy.Predict('question -> answer')\n\
             \x20   async def aforward(self, **inputs):\n\
             \x20       return await self.one.acall(**inputs)\n\
             def needs(what):\n\
             \x20   return Program()\n",
        ),
        ("imports.py", "import no_such_package\n"),
        ("syntax.py", "def broken(:\n"),
        ("script.py", "import sys\nsys.exit('usage: script.py')\n"),
        ("folder/inner.py", "def program():\n    pass\n"),
        ("folder/outer.py", "import beside\n"),
        ("folder/beside.py", ""),
    ] {
        fs::write(folder.path().join(name), code).expect("a file");
    }
    folder
}

/// An LM server that all tests share.
pub(crate) async fn lm_server() -> &'static ScriptedLm {
    static LM: OnceCell<ScriptedLm> = OnceCell::const_new();
    LM.get_or_init(|| async { ScriptedLm::start().await.expect("an LM server") })
        .await
}

/// The LM `model` of that server.
pub(crate) async fn lm(model: &str) -> Lm {
    Lm::new(format!("openai/{model}"))
        .base_url(lm_server().await.base_url())
        .key("test-key")
}

/// What a doctor says of `lm`, in the shared host.
pub(crate) async fn diagnosis_of(lm: Lm) -> Diagnosis {
    let doctor = Doctor::new().host(host().await);
    doctor.program("question -> answer", lm).run().await
}

/// Runs the test `name` again in a process of its own, with these variables, in `folder`, and
/// requires it to pass there; false in that process, which is to go on.
pub(crate) async fn own_process(name: &str, variables: &[(&str, &str)], folder: &Path) -> bool {
    if env::var_os(ALONE).is_some_and(|alone| alone == name) {
        return false;
    }
    let output = Command::new(env::current_exe().expect("a path"))
        .args(["--exact", name, "--nocapture"])
        .env_remove("VIRTUAL_ENV")
        .env(ALONE, name)
        .envs(variables.iter().copied())
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(LIMIT, output).await.expect("an end in time");
    let output = output.expect("a process");
    let said = [&*output.stdout, b"\n", &*output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{}\n{said}", output.status);
    // A name that is misspelt would run nothing, and pass.
    assert!(
        said.contains("test result: ok. 1 passed"),
        "no test `{name}`"
    );
    true
}
