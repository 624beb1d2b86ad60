//! Workers that exit or hang: each caller gets an answer or an error, and the pool recovers.

use std::{path::Path, time::Duration};

use serde_json::json;
use tempfile::NamedTempFile;
use tokio::{net::TcpListener, task::JoinHandle};
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    DeadlineLayer, DspyService, Error, Health, Host, LoadErrorKind, PredictRequest, Prediction,
    testing::scripted_lm::{Gate, Outcome, Reply, RequestRecord},
};

use crate::{
    support::{HOUR, ask, eventually, lm_server, load, question},
    workers::{is_there, stop, workers},
};

type Answer = Result<Prediction, Error>;

async fn start(n: usize) -> Host {
    let workers = workers(n).await.kill_after(Duration::from_millis(100));
    workers.start().await.expect("workers")
}

/// A call that has told the test's listener that it runs.
async fn running(program: &DspyService) -> (JoinHandle<Answer>, tokio::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let request = PredictRequest::new(json!({"port": port}));
    let call = tokio::spawn(program.clone().oneshot(request));
    let (peer, _) = listener.accept().await.unwrap();
    (call, peer)
}

fn pids(host: &Host) -> Vec<u32> {
    let processes = host.worker_stats().unwrap().processes;
    processes.iter().map(|process| process.pid).collect()
}

/// Waits until the pool has lost `lost` workers and is at full strength, and works.
async fn recovered(host: &Host, n: usize, lost: u64, qa: &DspyService) {
    let full = || {
        let stats = host.worker_stats().unwrap();
        stats.ready() == n && stats.processes.len() == n && stats.lost == lost
    };
    eventually("the pool at full strength", full).await;
    for _ in 0..2 * n {
        qa.clone().oneshot(ask("?")).await.unwrap();
    }
}

#[tokio::test]
async fn a_worker_that_exits_answers_its_calls_and_is_replaced() {
    lm_server().await.script("w-exits", Reply::echo());
    let host = start(2).await;
    let qa = question(&host, "w-exits").await;
    let exits = load(&host, "ends:exits", "w-exits").await;
    let before = pids(&host);
    match exits.clone().oneshot(PredictRequest::new(json!({}))).await {
        Err(Error::Lost(error)) => {
            assert!(error.reason().contains("exit status: 3"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(exits.in_flight(), 0);
    recovered(&host, 2, 1, &qa).await;
    let kept = pids(&host)
        .iter()
        .filter(|pid| before.contains(pid))
        .count();
    assert_eq!(kept, 1);
    assert_eq!(host.worker_stats().unwrap().calls_lost, 1);
    stop(host).await;
}

#[tokio::test]
async fn a_worker_that_is_killed_stops_its_lm_requests_and_loses_its_calls_only() {
    let server = lm_server().await;
    server.script("w-killed", Reply::hang());
    let host = start(2).await;
    let qa = question(&host, "w-killed").await;
    let held = || {
        let processes = host.worker_stats().unwrap().processes;
        let held: Vec<_> = processes.iter().map(|process| process.in_flight).collect();
        held
    };
    let mut calls = Vec::new();
    // Three for each, and more for one while a busy machine holds the other up.
    while held().iter().any(|calls| *calls < 3) {
        calls.push(tokio::spawn(qa.clone().oneshot(ask("?"))));
        let begun = |all: &[_]| all.len() == calls.len();
        server.wait_for("w-killed", begun).await.unwrap();
        let counted = || held().iter().sum::<usize>() == calls.len();
        eventually("its worker to have the call", counted).await;
        assert!(calls.len() < 60, "{:?}", held());
    }
    let (victim, its_calls) = (pids(&host)[0], held()[0]);
    kill(victim);
    let gone = |request: &RequestRecord| request.outcome == Outcome::ClientGone;
    let its_requests =
        |all: &[RequestRecord]| all.iter().filter(|request| gone(request)).count() == its_calls;
    server.wait_for("w-killed", its_requests).await.unwrap();
    eventually("the answers to its calls", || {
        calls.iter().filter(|call| call.is_finished()).count() == its_calls
    })
    .await;
    assert_eq!(qa.in_flight(), calls.len() - its_calls);
    // Its id is kept from others until all that it had started was ended.
    eventually("its end", || !is_there(victim)).await;
    server.script("w-killed", Reply::echo());
    recovered(&host, 2, 1, &qa).await;
    let mut lost = 0;
    for call in calls {
        if call.is_finished() {
            match call.await.unwrap() {
                Err(Error::Lost(error)) => {
                    assert!(error.reason().contains("SIGKILL"), "{error}");
                    // What it had asked for is on the record.
                    assert_eq!(error.spent().unwrap().lm_calls.len(), 1);
                    lost += 1;
                }
                other => panic!("{other:?}"),
            }
        } else {
            call.abort();
        }
    }
    assert_eq!(lost, its_calls);
    stop(host).await;
}

fn kill(pid: u32) {
    let status = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// A program that holds its worker's loop up is answered in time, and its worker replaced.
async fn hang(target: &str, model: &str) {
    lm_server().await.script(model, Reply::echo());
    let host = start(2).await;
    let qa = question(&host, model).await;
    let program = load(&host, target, model).await;
    // It is no hang before its time: nobody told it to stop.
    let (call, peer) = running(&program).await;
    let hangs = || {
        let processes = host.worker_stats().unwrap().processes;
        let mut with_call = processes.iter().filter(|process| process.in_flight > 0);
        with_call.any(|process| matches!(process.health, Health::Blocked { .. }))
    };
    // Before that the others' calls may come to this worker.
    eventually("the hang to show", hangs).await;
    for _ in 0..4 {
        qa.clone().oneshot(ask("?")).await.unwrap();
    }
    call.abort();
    eventually("its permit", || program.in_flight() == 0).await;
    drop(peer);
    recovered(&host, 2, 1, &qa).await;

    let limited = ServiceBuilder::new()
        // Long enough for it to begin, on a busy machine as well: else there is nothing to kill.
        .layer(DeadlineLayer::new(Duration::from_secs(5)))
        .service(program.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = limited
        .oneshot(PredictRequest::new(json!({"port": port})))
        .await;
    assert!(matches!(answer, Err(Error::Elapsed(_))), "{answer:?}");
    eventually("its permit", || program.in_flight() == 0).await;
    recovered(&host, 2, 2, &qa).await;
    assert_eq!(host.worker_stats().unwrap().killed, 2);
    stop(host).await;
}

#[tokio::test]
async fn an_endless_loop_is_killed_with_its_worker() {
    hang("ends:spins_on", "w-spins-on").await;
}

#[tokio::test]
async fn an_interruptible_loop_costs_no_worker() {
    lm_server().await.script("w-spins", Reply::echo());
    let workers = workers(1).await.kill_after(HOUR);
    let host = workers.start().await.expect("a worker");
    let qa = question(&host, "w-spins").await;
    let spins = load(&host, "ends:spins", "w-spins").await;
    let (call, _peer) = running(&spins).await;
    call.abort();
    eventually("its permit", || spins.in_flight() == 0).await;
    recovered(&host, 1, 0, &qa).await;
    stop(host).await;
}

/// Calls while workers are killed at random: each has its answer, and it is right or says `Lost`.
#[tokio::test]
async fn every_call_is_answered_or_fails_when_workers_are_killed() {
    lm_server().await.script("w-storm", Reply::echo());
    let host = start(2).await;
    let qa = question(&host, "w-storm").await;
    let (mut answered, mut lost) = (0, 0);
    for round in 0..10 {
        let ask = |n| {
            let (qa, text) = (qa.clone(), format!("{round} {n}"));
            tokio::spawn(async move { (qa.oneshot(ask(&text)).await, text) })
        };
        let calls: Vec<_> = (0..16).map(ask).collect();
        // Wherever they are by now.
        for _ in 0..round * 3 {
            tokio::task::yield_now().await;
        }
        let there = pids(&host);
        kill(there[round % there.len()]);
        for call in calls {
            match call.await.unwrap() {
                (Ok(answer), text) => {
                    assert_eq!(answer.outputs["answer"], format!("You said: {text}"));
                    answered += 1;
                }
                (Err(Error::Lost(_)), _) => lost += 1,
                other => panic!("{other:?}"),
            }
        }
        let full = || host.worker_stats().unwrap().ready() == 2;
        eventually("the pool at full strength", full).await;
    }
    assert_eq!(answered + lost, 160);
    assert_eq!(host.worker_stats().unwrap().calls_lost, lost);
    assert_eq!(qa.in_flight(), 0);
    stop(host).await;
}

#[tokio::test]
async fn a_c_call_that_holds_the_gil_is_killed_with_its_worker() {
    hang("asks:holds_the_gil", "w-gil").await;
}

#[tokio::test]
async fn a_program_that_ignores_sigterm_is_killed() {
    hang("ends:ignores_sigterm", "w-sigterm").await;
}

#[tokio::test]
async fn a_call_that_does_not_stop_has_its_worker_replaced_and_other_workers_stay() {
    let server = lm_server().await;
    let gate = Gate::new();
    server.script("w-swallows", Reply::hang());
    server.script("w-beside", Reply::echo().held_by(&gate));
    let retired_soon = workers(1).await.retire_after(Duration::from_millis(100));
    let host = retired_soon.kill_after(HOUR).start().await.unwrap();
    let swallows = load(&host, "lm_calls:swallows_everything", "w-swallows").await;
    let qa = question(&host, "w-beside").await;
    let request = PredictRequest::new(json!({"question": "?", "times": 1_000_000}));
    let call = tokio::spawn(swallows.clone().oneshot(request));
    server
        .wait_for("w-swallows", |all| all.len() == 1)
        .await
        .unwrap();
    let beside = tokio::spawn(qa.clone().oneshot(ask("beside")));
    server
        .wait_for("w-beside", |all| all.len() == 1)
        .await
        .unwrap();
    let before = pids(&host);
    call.abort();
    // Another takes its place while it has a call that may go on.
    let two = || host.worker_stats().unwrap().processes.len() == 2;
    eventually("a second worker", two).await;
    assert!(!beside.is_finished());
    gate.open();
    let answer = beside.await.unwrap().unwrap();
    assert_eq!(answer.outputs["answer"], "You said: beside");
    eventually("its permit", || swallows.in_flight() == 0).await;
    recovered(&host, 1, 1, &qa).await;
    assert_eq!(server.requests("w-swallows").len(), 1);
    eventually("its end", || !is_there(before[0])).await;
    stop(host).await;
}

#[tokio::test]
async fn processes_started_by_a_worker_end_with_it_and_hold_nothing_open() {
    lm_server().await.script("w-children", Reply::echo());
    let host = start(1).await;
    let qa = question(&host, "w-children").await;
    let starts = host.function("ends:starts_children", None).await.unwrap();
    let children = starts.call(json!({})).await.unwrap();
    let children: Vec<u32> = serde_json::from_value(children).unwrap();
    assert!(children.iter().all(|pid| is_there(*pid)));
    kill(pids(&host)[0]);
    recovered(&host, 1, 1, &qa).await;
    // Orphans of the worker's, which init reaps in its own time.
    eventually("their end", || !children.iter().any(|pid| is_running(*pid))).await;
    let descriptors = host.function("ends:descriptors", None).await.unwrap();
    let open = descriptors.call(json!({})).await.unwrap();
    let open: Vec<String> = serde_json::from_value(open).unwrap();
    let sockets = open
        .iter()
        .filter(|name| name.starts_with("socket:"))
        .count();
    // To the host, and the two by which its loop wakes itself.
    assert_eq!(sockets, 3, "{open:?}");
    stop(host).await;
}

fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn a_load_that_kills_its_worker_fails_and_the_pool_recovers() {
    lm_server().await.script("w-load", Reply::echo());
    let host = start(2).await;
    let qa = question(&host, "w-load").await;
    let error = host
        .load_source("import os; os._exit(4)", "f")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("exit status: 4"), "{error}");
    recovered(&host, 2, 2, &qa).await;
    stop(host).await;
}

/// The source of a program that ends its worker while it is imported, and counts that in a file.
/// The host sees the end of the socket well before that of the process.
fn ends_slowly(file: &Path) -> String {
    format!("{ENDS_SLOWLY}\nend({file:?})")
}

const ENDS_SLOWLY: &str = "
import os, signal, socket, stat, time

def end(path):
    with open(path, 'a') as file:
        file.write('.')
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for name in os.listdir('/proc/self/fd'):
        try:
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                socket.socket(fileno=os.dup(int(name))).shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
    time.sleep(0.03)
    os._exit(4)
";

#[tokio::test]
async fn a_load_that_kills_its_worker_is_sent_to_no_other_worker() {
    lm_server().await.script("w-load-slow", Reply::echo());
    let host = start(1).await;
    let qa = question(&host, "w-load-slow").await;
    let file = NamedTempFile::new().unwrap();
    for lost in 1..4 {
        let ends = host.load_source(ends_slowly(file.path()), "f");
        let error = ends.await.unwrap_err();
        assert_eq!(error.kind(), LoadErrorKind::Lost, "{error}");
        recovered(&host, 1, lost, &qa).await;
        assert_eq!(file.as_file().metadata().unwrap().len(), lost);
    }
    stop(host).await;
}

#[tokio::test]
async fn a_replacement_that_kills_its_worker_is_sent_to_no_other_worker() {
    lm_server().await.script("w-replace-slow", Reply::echo());
    let host = start(1).await;
    let qa = question(&host, "w-replace-slow").await;
    let program = "async def f(): return {}";
    let program = host.load_source(program, "f").await.unwrap();
    let file = NamedTempFile::new().unwrap();
    for lost in 1..4 {
        let ends = host.load_source(ends_slowly(file.path()), "f");
        let error = program.replace(ends).await.unwrap_err();
        assert_eq!(error.kind(), LoadErrorKind::Lost, "{error}");
        recovered(&host, 1, lost, &qa).await;
        assert_eq!(file.as_file().metadata().unwrap().len(), lost);
    }
    stop(host).await;
}
