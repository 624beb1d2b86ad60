//! Workers that are forked from a zygote, and the state that each has of its own.

use std::{
    collections::{HashMap, HashSet},
    fs,
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use tower::ServiceExt;
use tower_dspy::{
    Error, Health, Host, WorkerState,
    service::Function,
    testing::scripted_lm::{Outcome, Reply},
};

use crate::{
    support::{again, ask, eventually, lm_server, question, venv},
    workers::{is_there, stop, workers},
};

async fn start(n: usize) -> Host {
    workers(n).await.start().await.expect("workers")
}

fn zygote(host: &Host) -> Option<u32> {
    host.worker_stats().unwrap().zygote
}

/// Asks every worker: several calls at once go to different ones.
async fn ask_all(function: &Function, workers: usize) -> Vec<Value> {
    let calls: Vec<_> = (0..workers)
        .map(|_| {
            let function = function.clone();
            tokio::spawn(async move { function.call(json!({})).await.unwrap() })
        })
        .collect();
    let mut answers = vec![];
    for call in calls {
        answers.push(call.await.unwrap());
    }
    answers
}

const OWN: &str = "
import asyncio, os, random, uuid
async def own():
    await asyncio.sleep(0.2)
    numbers = [random.random(), str(uuid.uuid4()), os.urandom(8).hex()]
    return {'pid': os.getpid(), 'parent': os.getppid(), 'group': os.getpgid(0), 'numbers': numbers}
";

#[tokio::test]
async fn workers_are_children_of_one_zygote_and_share_no_random_numbers() {
    let host = start(3).await;
    let own = host.function("own", Some(OWN)).await.unwrap();
    let parent = zygote(&host).expect("a zygote");
    // By process: a worker that a busy machine holds up gets no calls.
    let mut answers = HashMap::new();
    for _ in 0..20 {
        for own in ask_all(&own, 3).await {
            answers.entry(own["pid"].as_u64()).or_insert(own);
        }
        if answers.len() == 3 {
            break;
        }
    }
    assert_eq!(answers.len(), 3, "{answers:?}");
    for own in answers.values() {
        assert_eq!(own["parent"], parent);
        assert_eq!(own["group"], own["pid"]);
    }
    let numbers = answers
        .values()
        .flat_map(|own| own["numbers"].as_array().unwrap());
    let numbers: HashSet<_> = numbers.map(ToString::to_string).collect();
    assert_eq!(numbers.len(), 9, "{answers:?}");
    stop(host).await;
    assert!(!is_there(parent), "the zygote is left");
}

#[tokio::test]
async fn workers_can_start_without_a_zygote() {
    lm_server().await.script("w-no-fork", Reply::echo());
    let host = workers(1).await.fork(false).start().await.unwrap();
    let qa = question(&host, "w-no-fork").await;
    qa.oneshot(ask("?")).await.unwrap();
    assert_eq!(zygote(&host), None);
    let own = host.function("own", Some(OWN)).await.unwrap();
    let own = own.call(json!({})).await.unwrap();
    assert_eq!(own["parent"], std::process::id());
    stop(host).await;
}

/// What is installed beside DSPy may start a thread as it is imported: the lock that this holds, or
/// any other, would stay locked in a forked worker for ever.
#[tokio::test]
async fn a_process_with_threads_is_not_forked() {
    lm_server().await.script("w-threads", Reply::echo());
    let folder = tempfile::tempdir().unwrap();
    let shadow = "
import importlib, sys, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
folder = sys.path.pop(0)
del sys.modules['tqdm']
importlib.import_module('tqdm')
sys.path.insert(0, folder)
";
    fs::write(folder.path().join("tqdm.py"), shadow).unwrap();
    let workers = Host::workers(1)
        .venv(venv().await)
        .python_path(folder.path());
    let host = workers.start().await.unwrap();
    let own = host.function("own", Some(OWN)).await.unwrap();
    let own = own.call(json!({})).await.unwrap();
    assert_eq!(own["parent"], std::process::id());
    let qa = question(&host, "w-threads").await;
    qa.clone().oneshot(ask("?")).await.unwrap();
    eventually("the end of the zygote", || zygote(&host).is_none()).await;
    kill(host.worker_stats().unwrap().processes[0].pid);
    let up = || host.worker_stats().unwrap().ready() == 1;
    eventually("another worker", || {
        up() && host.worker_stats().unwrap().lost == 1
    })
    .await;
    qa.oneshot(ask("?")).await.unwrap();
    stop(host).await;
}

#[tokio::test]
async fn a_killed_zygote_fails_its_calls_with_errors_and_the_pool_restarts() {
    let server = lm_server().await;
    server.script("w-zygote", Reply::hang());
    let host = start(2).await;
    let qa = question(&host, "w-zygote").await;
    let calls: Vec<_> = (0..4)
        .map(|_| tokio::spawn(qa.clone().oneshot(ask("?"))))
        .collect();
    let asked = |all: &[_]| all.len() == 4;
    server.wait_for("w-zygote", asked).await.unwrap();
    let first = zygote(&host).unwrap();
    kill(first);
    for call in calls {
        let answer = call.await.unwrap();
        assert!(matches!(answer, Err(Error::Lost(_))), "{answer:?}");
    }
    let gone = |all: &[_]| all.iter().all(is_gone);
    server.wait_for("w-zygote", gone).await.unwrap();
    server.script("w-zygote", Reply::echo());
    eventually("two workers", || host.worker_stats().unwrap().ready() == 2).await;
    assert_ne!(zygote(&host), Some(first));
    qa.oneshot(ask("?")).await.unwrap();
    assert_eq!(host.worker_stats().unwrap().calls_lost, 4);
    stop(host).await;
}

fn is_gone(request: &tower_dspy::testing::scripted_lm::RequestRecord) -> bool {
    request.outcome == Outcome::ClientGone
}

fn kill(pid: u32) {
    signal("-9", pid);
}

fn signal(signal: &str, pid: u32) {
    let kill = std::process::Command::new("kill")
        .args([signal, &pid.to_string()])
        .stderr(Stdio::null())
        .status();
    assert!(kill.unwrap().success());
}

#[tokio::test]
async fn a_stop_returns_after_a_zygote_that_hangs_has_ended() {
    let host = start(1).await;
    let stuck = zygote(&host).unwrap();
    signal("-STOP", stuck);
    host.stop(Duration::ZERO).await;
    assert!(!is_there(stuck), "the zygote is left");
}

/// A zygote that hangs tells of no end: it is given up, with all that it has forked.
#[tokio::test]
async fn a_zygote_that_hangs_is_replaced() {
    lm_server().await.script("w-stuck", Reply::echo());
    let host = start(1).await;
    let qa = question(&host, "w-stuck").await;
    let stuck = zygote(&host).unwrap();
    let worker = host.worker_stats().unwrap().processes[0].pid;
    signal("-STOP", stuck);
    kill(worker);
    let another = || {
        let stats = host.worker_stats().unwrap();
        stats.ready() == 1 && stats.zygote.is_some_and(|pid| pid != stuck)
    };
    eventually("another zygote and its worker", another).await;
    qa.oneshot(ask("?")).await.unwrap();
    assert!(!is_there(stuck));
    stop(host).await;
}

/// A host whose one worker takes its first call as the zygote hangs, and is to be replaced after it.
async fn waiting_for_a_fork(model: &str) -> (Host, u32) {
    lm_server().await.script(model, Reply::echo());
    let workers = workers(1).await.max_calls(1);
    let host = workers.start().await.expect("a worker");
    let qa = question(&host, model).await;
    let stuck = zygote(&host).unwrap();
    signal("-STOP", stuck);
    qa.oneshot(ask("?")).await.unwrap();
    (host, stuck)
}

#[tokio::test]
async fn a_zygote_that_hangs_as_it_is_to_fork_is_replaced() {
    let (host, stuck) = waiting_for_a_fork("w-fork-stuck").await;
    let another = || {
        let stats = host.worker_stats().unwrap();
        stats.ready() == 1 && stats.zygote.is_some_and(|pid| pid != stuck)
    };
    eventually("another zygote and its worker", another).await;
    assert!(!is_there(stuck));
    stop(host).await;
}

#[tokio::test]
async fn a_stopped_host_leaves_no_zygote_that_hangs_as_it_is_to_fork() {
    let (host, stuck) = waiting_for_a_fork("w-fork-stop").await;
    host.stop(Duration::ZERO).await;
    let is_gone = || {
        let processes = host.worker_stats().unwrap().processes;
        !is_there(stuck) && processes.is_empty()
    };
    eventually("its end, and that of its worker", is_gone).await;
}

#[tokio::test]
async fn workers_end_when_the_hosts_process_is_killed() {
    let name = "workers_fork::workers_end_when_the_hosts_process_is_killed";
    let told = |asker| std::env::temp_dir().join(format!("tower-dspy-killed-{asker}"));
    if let Some(output) = again(name, &[]).await {
        assert!(!output.status.success());
        let told = told(std::process::id());
        let pids = fs::read_to_string(&told).unwrap();
        let pids: Vec<u32> = pids.lines().map(|pid| pid.parse().unwrap()).collect();
        assert_eq!(pids.len(), 3);
        eventually("their end", || !pids.iter().any(|pid| is_running(*pid))).await;
        fs::remove_file(&told).unwrap();
        return;
    }
    let told = told(std::os::unix::process::parent_id());
    let host = start(2).await;
    let held = host
        .function("holds", Some(HOLDS))
        .await
        .expect("a function");
    let path = told.with_extension("held");
    let _ = fs::remove_file(&path);
    let call = held.call(json!({"path": path.to_str().unwrap()}));
    tokio::spawn(call);
    // One of them holds the GIL for ever: it reads no socket.
    eventually("a call that runs", || path.exists()).await;
    fs::remove_file(&path).unwrap();
    let stats = host.worker_stats().unwrap();
    let pids = stats.processes.iter().map(|process| process.pid);
    let pids = pids.chain(stats.zygote).map(|pid| format!("{pid}\n"));
    fs::write(&told, pids.collect::<String>()).unwrap();
    kill(std::process::id());
    std::future::pending::<()>().await;
}

const HOLDS: &str = "
import ctypes, pathlib
async def holds(path: str):
    pathlib.Path(path).touch()
    ctypes.PyDLL(None).sleep(3600)
";

fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn each_worker_reports_its_stats() {
    let host = start(2).await;
    let blocks = "
import pathlib, time
async def blocks(path: str):
    while not pathlib.Path(path).exists():
        time.sleep(0.01)
    return True
";
    let blocks = host.function("blocks", Some(blocks)).await.unwrap();
    let path = std::env::temp_dir().join(format!("tower-dspy-blocks-{}", std::process::id()));
    let arguments = json!({"path": path.to_str().unwrap()});
    let call = tokio::spawn(async move { blocks.call(arguments).await });
    let blocked = || {
        let processes = host.worker_stats().unwrap().processes;
        let frame = processes.iter().find_map(|process| match &process.health {
            Health::Blocked { frame, .. } => frame.clone(),
            _ => None,
        });
        let others = processes.iter().any(|other| other.health == Health::Ready);
        frame.filter(|_| others)
    };
    eventually("one that is blocked beside one that is ready", || {
        blocked().is_some_and(|frame| frame.contains("blocks"))
    })
    .await;
    eventually("a pool that takes calls", || host.health() == Health::Ready).await;
    fs::write(&path, "").unwrap();
    assert_eq!(call.await.unwrap().unwrap(), true);
    fs::remove_file(&path).unwrap();
    let stats = host.worker_stats().unwrap();
    let calls: Vec<_> = stats
        .processes
        .iter()
        .map(|process| process.calls)
        .collect();
    assert_eq!(calls.iter().sum::<u64>(), 1, "{calls:?}");
    stop(host).await;
}

/// A pool whose workers end as they load their program tries again ever more seldom, and says so.
#[tokio::test]
async fn a_pool_that_cannot_start_backs_off_between_attempts() {
    let host = start(1).await;
    let path = std::env::temp_dir().join(format!("tower-dspy-crash-{}", std::process::id()));
    let crashes = format!(
        "import os, pathlib\nif pathlib.Path({path:?}).exists(): os._exit(5)\nasync def f(): pass"
    );
    // Loaded for as long as somebody may call it.
    let loaded = host.function("f", Some(&crashes)).await.unwrap();
    fs::write(&path, "").unwrap();
    kill(host.worker_stats().unwrap().processes[0].pid);
    let failed = || host.worker_stats().unwrap().failed_starts;
    eventually("some starts that fail", || failed() >= 3).await;
    let lost = host.worker_stats().unwrap().lost;
    assert!(lost <= u64::from(failed()) + 1, "{lost} were lost");
    eventually("a host that says so", || host.health() == Health::Starting).await;
    fs::remove_file(&path).unwrap();
    let up = || host.worker_stats().unwrap().ready() == 1;
    eventually("a worker", up).await;
    assert!(matches!(
        host.worker_stats().unwrap().processes[..],
        [ref one] if one.state == WorkerState::Ready
    ));
    drop(loaded);
    stop(host).await;
}

/// A worker that starts while a program cannot be loaded serves it once it can.
#[tokio::test]
async fn a_program_that_a_later_worker_could_not_load_is_loaded_again() {
    let host = start(1).await;
    let path = std::env::temp_dir().join(format!("tower-dspy-fails-{}", std::process::id()));
    let fails = format!(
        "import pathlib\nassert not pathlib.Path({path:?}).exists(), 'not now'\nasync def f(): return 1"
    );
    let function = host.function("f", Some(&fails)).await.unwrap();
    fs::write(&path, "").unwrap();
    let killed = host.worker_stats().unwrap().processes[0].pid;
    kill(killed);
    let later = || {
        let workers = host.worker_stats().unwrap();
        workers.ready() == 1 && workers.processes[0].pid != killed
    };
    eventually("another worker", later).await;
    let lost = function.call(json!({})).await.unwrap_err();
    assert!(lost.to_string().contains("not now"), "{lost}");
    fs::remove_file(&path).unwrap();
    let served = async {
        while function.call(json!({})).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let served = tokio::time::timeout(Duration::from_secs(10), served).await;
    served.expect("the program is loaded again");
    stop(host).await;
}
