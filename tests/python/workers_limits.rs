//! The limits of time of worker processes: of their start, and of a load.

use std::{fs, time::Duration};

use tempfile::{TempDir, tempdir};
use tower::ServiceExt;
use tower_dspy::{Host, LoadErrorKind, testing::scripted_lm::Reply};

use crate::{
    support::{HOUR, ask, lm_server, question, venv},
    workers::stop,
};

/// A folder with a module whose import does not end.
fn hanging(module: &str) -> TempDir {
    let folder = tempdir().unwrap();
    let code = "import time\ntime.sleep(3600)\n";
    fs::write(folder.path().join(format!("{module}.py")), code).unwrap();
    folder
}

/// What is imported with DSPy hangs: in the zygote, or in a worker that is started by itself.
#[tokio::test]
async fn a_start_whose_import_does_not_end_fails_and_names_its_limit() {
    let folder = hanging("tqdm");
    for fork in [true, false] {
        let workers = Host::workers(1)
            .venv(venv().await)
            .python_path(folder.path())
            .fork(fork)
            .start_limit(Duration::from_millis(500));
        let error = workers.start().await.expect_err("it hangs").to_string();
        assert!(error.contains("after 500ms, the `start_limit`"), "{error}");
    }
}

#[tokio::test]
async fn a_worker_whose_loop_a_load_blocks_is_killed_at_the_limit_of_the_load() {
    lm_server().await.script("w-hangs", Reply::echo());
    let folder = hanging("hangs");
    let workers = Host::workers(1)
        .venv(venv().await)
        .python_path(folder.path())
        .kill_after(HOUR)
        // The load below is to end within it too.
        .load_limit(Duration::from_secs(3));
    let host = workers.start().await.unwrap();
    let error = host.load("hangs:Program").await.unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Lost, "{error}");
    let named = "blocked its loop for 3s, the `load_limit`";
    assert!(error.to_string().contains(named), "{error}");
    // The next worker is not given that program.
    let qa = question(&host, "w-hangs").await;
    qa.oneshot(ask("?")).await.unwrap();
    stop(host).await;
}
