//! Programs that are replaced while they serve.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tower::ServiceExt;
use tower_dspy::{
    DspyService, Error, Host, LoadErrorKind, PredictRequest, Prediction, WorkerState,
    service::Load,
    testing::scripted_lm::{Gate, Reply},
};

use crate::{
    support::{ask, eventually, host, lm, lm_server, question},
    workers::{stop, workers},
};

/// A folder with one program, `versions:program`, that is written anew.
struct Versions(tempfile::TempDir);

impl Versions {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    /// Answers with `version`, and with what its LM said. Python tells sources apart by their time,
    /// in seconds, and their length: each version has another length.
    fn write(&self, version: usize) {
        self.put(&format!(
            "import dspy\nclass program(dspy.Module):\n    def __init__(self):\n        \
             super().__init__()\n        self.step = dspy.Predict('question -> answer')\n    \
             async def aforward(self, question: str):\n        \
             said = await self.step.acall(question=question)\n        \
             return dspy.Prediction(answer=said.answer, version={version})\n#{}",
            "#".repeat(version),
        ));
    }

    fn put(&self, source: &str) {
        fs::write(self.0.path().join("versions.py"), source).expect("a file");
    }

    fn folder(&self) -> PathBuf {
        self.0.path().to_path_buf()
    }
}

async fn start(n: usize, versions: &Versions) -> Host {
    let workers = workers(n).await.python_path(versions.folder());
    workers.start().await.expect("workers")
}

async fn load(host: &Host, model: &str) -> Load {
    host.load("versions:program").lm(lm(model).await)
}

fn version(answer: &Prediction) -> u64 {
    answer.outputs["version"].as_u64().expect("a version")
}

fn in_flight(qa: &DspyService) -> JoinHandle<Result<Prediction, Error>> {
    tokio::spawn(qa.clone().oneshot(ask("held")))
}

#[tokio::test]
async fn a_replaced_program_finishes_its_calls_and_the_new_program_gets_the_next() {
    let (server, gate, versions) = (lm_server().await, Gate::new(), Versions::new());
    server.script("w-replace", Reply::echo().held_by(&gate));
    server.script("w-beside-it", Reply::echo());
    versions.write(1);
    let host = start(2, &versions).await;
    let qa = load(&host, "w-replace").await.await.unwrap();
    let other = question(&host, "w-beside-it").await;
    let held = || {
        let processes = host.worker_stats().unwrap().processes;
        let held: Vec<_> = processes.iter().map(|process| process.in_flight).collect();
        held
    };
    let mut before = Vec::new();
    // One for each, and more for one while a busy machine holds the other up.
    while held().contains(&0) {
        before.push(in_flight(&qa));
        let begun = |all: &[_]| all.len() == before.len();
        server.wait_for("w-replace", begun).await.unwrap();
        let counted = || held().iter().sum::<usize>() == before.len();
        eventually("its worker to have the call", counted).await;
        assert!(before.len() < 60, "{:?}", held());
    }

    versions.write(2);
    qa.replace(load(&host, "w-replace").await).await.unwrap();
    let stats = host.worker_stats().unwrap();
    assert_eq!((stats.ready(), stats.processes.len()), (2, 4), "{stats:?}");
    let after = in_flight(&qa);
    let begun = |all: &[_]| all.len() == before.len() + 1;
    server.wait_for("w-replace", begun).await.unwrap();
    // The others have been loaded anew as well.
    other.clone().oneshot(ask("?")).await.unwrap();
    gate.open();
    for call in before {
        assert_eq!(version(&call.await.unwrap().unwrap()), 1);
    }
    assert_eq!(version(&after.await.unwrap().unwrap()), 2);
    eventually("the old workers' end", || {
        let stats = host.worker_stats().unwrap();
        stats.processes.len() == 2 && stats.recycled == 2
    })
    .await;
    let stats = host.worker_stats().unwrap();
    assert_eq!((stats.lost, stats.calls_lost, stats.killed), (0, 0, 0));
    stop(host).await;
}

#[tokio::test]
async fn a_failed_replacement_leaves_the_program_unchanged() {
    let (server, versions) = (lm_server().await, Versions::new());
    server.script("w-fails", Reply::echo());
    versions.write(1);
    let host = start(1, &versions).await;
    let qa = load(&host, "w-fails").await.await.unwrap();
    let before = host.worker_stats().unwrap().processes;

    let ends = "import os; os._exit(6)";
    let other = "async def program(text: str): return {'answer': text}";
    let wrong = [
        ("this is no Python", LoadErrorKind::Raised, "SyntaxError"),
        (ends, LoadErrorKind::Lost, "exit status: 6"),
        (other, LoadErrorKind::Schema, "other fields"),
    ];
    for (source, kind, said) in wrong {
        versions.put(source);
        let error = qa.replace(load(&host, "w-fails").await).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(said), "{error}");
        let answer = qa.clone().oneshot(ask("?")).await.unwrap();
        assert_eq!(version(&answer), 1);
    }
    let missing = qa.replace(host.load("no_such_module:program")).await;
    assert_eq!(missing.unwrap_err().kind(), LoadErrorKind::NotFound);
    let none = qa.replace(host.load("nothing")).await.unwrap_err();
    assert_eq!(none.kind(), LoadErrorKind::Target, "{none}");
    eventually("the end of the new ones", || {
        host.worker_stats().unwrap().processes.len() == 1
    })
    .await;
    let after = host.worker_stats().unwrap();
    assert_eq!(after.processes[0].pid, before[0].pid);
    assert_eq!(after.processes[0].state, WorkerState::Ready);
    versions.write(2);
    qa.replace(load(&host, "w-fails").await).await.unwrap();
    assert_eq!(version(&qa.oneshot(ask("?")).await.unwrap()), 2);
    stop(host).await;
}

/// Calls all the while: each has its answer, and none an older one than the call before it.
#[tokio::test]
async fn replacing_a_program_again_and_again_loses_no_call() {
    let (server, versions) = (lm_server().await, Versions::new());
    server.script("w-again", Reply::echo());
    versions.write(1);
    let host = start(2, &versions).await;
    let qa = load(&host, "w-again").await.await.unwrap();
    let (stop_calling, stopping) = tokio::sync::watch::channel(false);
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (qa, stopping) = (qa.clone(), stopping.clone());
            tokio::spawn(async move {
                let mut versions = vec![];
                while !*stopping.borrow() {
                    let answer = qa.clone().oneshot(ask(&client.to_string())).await.unwrap();
                    let said = format!("You said: {client}");
                    assert_eq!(answer.outputs["answer"], said);
                    versions.push(version(&answer));
                }
                versions
            })
        })
        .collect();
    let all_ask = |all: &[_]| all.len() >= 4;
    server.wait_for("w-again", all_ask).await.unwrap();
    for n in 2..=5 {
        versions.write(n);
        // Two at once: one waits for the other.
        let again = qa.replace(load(&host, "w-again").await);
        let (one, two) = tokio::join!(qa.replace(load(&host, "w-again").await), again);
        one.unwrap();
        two.unwrap();
        let answer = qa.clone().oneshot(ask("?")).await.unwrap();
        assert_eq!(version(&answer), n as u64);
    }
    stop_calling.send_replace(true);
    for client in clients {
        let seen = client.await.unwrap();
        assert!(seen.is_sorted(), "an old version after a new one: {seen:?}");
        assert!(!seen.is_empty());
    }
    assert_eq!(host.worker_stats().unwrap().calls_lost, 0);
    stop(host).await;
}

#[tokio::test]
async fn a_replaced_program_accepts_the_lm_names_of_the_new_program() {
    let (server, versions) = (lm_server().await, Versions::new());
    for model in ["w-lms-a", "w-lms-b"] {
        server.script(model, Reply::answer(model));
    }
    versions.write(1);
    let host = start(1, &versions).await;
    let with = async |name: &str, model: &str| {
        let lms = [(name.to_owned(), lm(model).await)];
        host.load("versions:program").lms(lms)
    };
    let qa = with("old", "w-lms-a").await.await.unwrap();
    let asked = |name: &str| {
        let request: PredictRequest = ask("?").with_lm(name);
        qa.clone().oneshot(request)
    };
    assert_eq!(asked("old").await.unwrap().outputs["answer"], "w-lms-a");
    qa.replace(with("new", "w-lms-b").await).await.unwrap();
    assert_eq!(asked("new").await.unwrap().outputs["answer"], "w-lms-b");
    assert!(matches!(asked("old").await, Err(Error::InvalidInput(_))));
    stop(host).await;
}

#[tokio::test]
async fn a_replacement_is_refused_where_it_is_not_possible() {
    let embedded = host().await;
    assert!(embedded.worker_stats().is_none());
    lm_server().await.script("w-where", Reply::echo());
    let here = question(&embedded, "w-where").await;
    let again = embedded.load("question -> answer").lm(lm("w-where").await);
    let error = here.replace(again).await.unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Replacement, "{error}");
    assert!(error.to_string().contains("Host::workers"), "{error}");

    let host = workers(1).await.start().await.unwrap();
    let there = host.load("question -> answer").lm(lm("w-where").await);
    let error = here.replace(there).await.unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Replacement, "{error}");
    assert!(error.to_string().contains("another host"), "{error}");
    let value = here.oneshot(ask("?")).await.unwrap().outputs;
    assert_eq!(Value::from(value)["answer"], json!("You said: ?"));
    stop(host).await;
}
