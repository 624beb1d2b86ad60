//! The set-up of a host: its venv, the folder of its programs, and what the surroundings spoil.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use serde_json::json;
use tempfile::{TempDir, tempdir};
use tower::ServiceExt;
use tower_dspy::{Host, StartError, host::env::EnvError};

use crate::support::{in_a_worker, lm, own_process, own_process_with, programs, venv};

/// Starts a host with nothing but its venv.
async fn start(venv: &Path) -> Result<Host, StartError> {
    if in_a_worker() {
        Host::workers(1).create_venv(venv).start().await
    } else {
        Host::embedded().create_venv(venv).start().await
    }
}

/// A folder of a service: a program, and files named as a package and a module.
fn service() -> TempDir {
    let folder = tempdir().unwrap();
    let programs = folder.path().join("shop_programs");
    fs::create_dir(&programs).unwrap();
    fs::write(
        programs.join("qa.py"),
        "import json\n\nimport dspy\n\n\nclass Program(dspy.Predict):\n    \
         def __init__(self):\n        super().__init__('question -> answer')\n        \
         assert json.loads('1') == 1\n",
    )
    .unwrap();
    for name in ["dspy.py", "json.py"] {
        fs::write(
            folder.path().join(name),
            "raise ImportError('not this one')",
        )
        .unwrap();
    }
    folder
}

#[tokio::test]
async fn programs_beside_cargo_toml_are_found_and_shadow_no_package() {
    let name = "set_up::programs_beside_cargo_toml_are_found_and_shadow_no_package";
    let venv = venv().await;
    if own_process(name).await.is_some() {
        return;
    }
    let service = service();
    env::set_current_dir(&service).unwrap();
    let host = start(&venv).await.unwrap();
    // A worker that is started later looks in the same folder.
    env::set_current_dir("/").unwrap();
    let load = host.load("shop_programs.qa:Program");
    let program = load.lm(lm("beside Cargo.toml").await).await.unwrap();
    let request = tower_dspy::PredictRequest::new(json!({"question": "?"}));
    program.oneshot(request).await.unwrap();
}

#[tokio::test]
async fn a_python_path_takes_the_place_of_the_working_directory() {
    let name = "set_up::a_python_path_takes_the_place_of_the_working_directory";
    let venv = venv().await;
    if own_process(name).await.is_some() {
        return;
    }
    let service = service();
    env::set_current_dir(&service).unwrap();
    let host = if in_a_worker() {
        Host::workers(1)
            .venv(venv)
            .python_path(programs())
            .start()
            .await
    } else {
        Host::embedded()
            .venv(venv)
            .python_path(programs())
            .start()
            .await
    };
    let load = host
        .unwrap()
        .load("shop_programs.qa:Program")
        .lm(lm("not found").await);
    let error = load.await.unwrap_err().to_string();
    assert!(
        error.contains("no module named") || error.contains("no module"),
        "{error}"
    );
}

#[tokio::test]
async fn a_pythonhome_of_another_installation() {
    let name = "set_up::a_pythonhome_of_another_installation";
    let venv = venv().await;
    let home = tempdir().unwrap();
    let variables = [("PYTHONHOME", home.path().to_str().unwrap())];
    if own_process_with(name, &variables).await.is_some() {
        return;
    }
    // Python in processes of its own is started without it.
    Host::workers(1).venv(&venv).start().await.unwrap();
    let error = Host::embedded().venv(&venv).start().await.unwrap_err();
    let text = format!("{error:?}");
    assert!(
        matches!(error, StartError::Env(EnvError::PythonHome { .. })),
        "{text}"
    );
    assert!(text.contains("unset PYTHONHOME"), "{text}");
}

/// The libpython that this process has loaded.
fn libpython() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let paths = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| &line[at..]));
    let is_libpython = |path: &&str| path.contains("/libpython3.") && path.contains(".so.");
    paths.into_iter().find(is_libpython).unwrap().into()
}

#[tokio::test]
async fn another_libpython_was_loaded() {
    let name = "set_up::another_libpython_was_loaded";
    let venv = venv().await;
    let (other, ours) = (tempdir().unwrap(), libpython());
    let copy = other.path().join(ours.file_name().unwrap());
    fs::copy(&ours, &copy).unwrap();
    let variables = [
        ("LD_LIBRARY_PATH", other.path().to_str().unwrap()),
        ("MEANT", ours.to_str().unwrap()),
    ];
    if own_process_with(name, &variables).await.is_some() {
        return;
    }
    let error = Host::embedded().venv(&venv).start().await.unwrap_err();
    let text = error.to_string();
    let StartError::Env(EnvError::OtherLibpython { loaded, meant, .. }) = error else {
        panic!("{text}");
    };
    assert_eq!(loaded, libpython());
    assert_eq!(
        meant.canonicalize().unwrap(),
        Path::new(&env::var("MEANT").unwrap())
    );
    for part in ["$LD_LIBRARY_PATH names its folder", "Unset it"] {
        assert!(text.contains(part), "no `{part}` in: {text}");
    }
    assert!(!text.contains("-m venv"), "{text}");
    // Workers load none.
    Host::workers(1).venv(&venv).start().await.unwrap();
}
