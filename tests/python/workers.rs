//! Programs in worker processes: the same service, the same answers, errors and ends.

use std::{fs, path::Path, time::Duration};

use serde_json::json;
use tokio_util::sync::CancellationToken;
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    DeadlineLayer, Error, Health, Host, HostStats, LoadErrorKind, PredictRequest, Scope, Stage,
    WorkerState, Workers,
    testing::scripted_lm::{Outcome, Reply},
};

use crate::support::{
    HOUR, ask, ask_as, eventually, eventually_seen, lm, lm_server, load, open, programs, question,
    seen, venv,
};

pub(crate) async fn workers(n: usize) -> Workers {
    Host::workers(n).venv(venv().await).python_path(programs())
}

async fn start(n: usize) -> Host {
    workers(n).await.start().await.expect("workers")
}

/// Stops the host, and requires that nothing is left of it.
pub(crate) async fn stop(host: Host) -> HostStats {
    let pids: Vec<u32> = host
        .worker_stats()
        .expect("workers")
        .processes
        .iter()
        .map(|process| process.pid)
        .collect();
    let stats = host.stop(Duration::from_secs(5)).await;
    assert_eq!((stats.running, stats.queued, stats.orphans), (0, 0, 0));
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(status.is_empty() || status.contains(") Z "), "{status}");
        // A zombie stays in /proc until init reaps it.
        eventually(&format!("the end of {pid}"), || !is_there(pid)).await;
    }
    assert_eq!(host.health(), Health::Lost);
    stats
}

/// Whether a process is there, be it as a zombie.
pub(crate) fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn a_program_answers_in_each_worker() {
    let (host, server) = (start(2).await, lm_server().await);
    server.script("w-answers", Reply::echo());
    let qa = question(&host, "w-answers").await;
    assert_eq!(qa.schema().inputs[0].name, "question");

    let mut answers = Vec::new();
    for n in 0..20 {
        let qa = qa.clone();
        let question = format!("number {n}");
        answers.push(tokio::spawn(async move {
            let answer = qa.oneshot(ask(&question)).await.unwrap();
            assert_eq!(answer.outputs["answer"], format!("You said: {question}"));
            assert_eq!(answer.lm_calls.len(), 1);
            assert!(answer.usage.total_tokens > 0);
        }));
    }
    for answer in answers {
        answer.await.unwrap();
    }
    assert_eq!(server.requests("w-answers").len(), 20);
    assert_eq!(host.stats().lm.answered, 20);
    let stats = host.worker_stats().unwrap();
    assert_eq!((stats.ready(), stats.lost), (2, 0));
    eventually("a heartbeat", || host.health() == Health::Ready).await;
    assert_eq!(stop(host).await.settled, 20);
}

/// With one worker, what a test asks of its programs comes from the process that ran them. It is not
/// killed for a call that does not end.
async fn one(model: &str, reply: Reply) -> Host {
    lm_server().await.script(model, reply);
    let workers = workers(1).await.kill_after(HOUR).retire_after(HOUR);
    workers.start().await.expect("a worker")
}

#[tokio::test]
async fn errors_keep_their_types() {
    let host = one("w-errors", Reply::status(429).retry_after(7)).await;
    let qa = question(&host, "w-errors").await;
    match qa.clone().oneshot(ask("?")).await {
        Err(Error::Lm(error)) => {
            assert_eq!(error.status(), Some(429));
            assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        }
        other => panic!("{other:?}"),
    }
    let wrong = qa.oneshot(PredictRequest::new(json!({"query": "?"}))).await;
    assert!(matches!(wrong, Err(Error::InvalidInput(_))), "{wrong:?}");

    let fails = load(&host, "asks:prompts_in_its_error", "w-errors").await;
    match fails.oneshot(ask("this")).await {
        Err(Error::Program(error)) => {
            assert_eq!(error.python_type(), "ValueError");
            assert_eq!(error.message(), "cannot answer this");
            assert!(error.traceback().contains("prompts_in_its_error"));
        }
        other => panic!("{other:?}"),
    }
    let no_json = "async def f(): return float('nan')";
    let no_json = host.function("f", Some(no_json)).await.unwrap();
    let answer = no_json.call(json!({})).await;
    assert!(matches!(answer, Err(Error::Program(_))), "{answer:?}");
    let missing = host.load("asks:nothing_of_this_name").await.unwrap_err();
    assert_eq!(missing.kind(), LoadErrorKind::NotFound, "{missing}");
    let exits = host.load("exits_at_import:program").await.unwrap_err();
    assert_eq!(exits.kind(), LoadErrorKind::Raised, "{exits}");
    assert_eq!(host.worker_stats().unwrap().lost, 0);
    stop(host).await;
}

#[tokio::test]
async fn a_deadline_stops_the_lm_request() {
    let host = one("w-deadline", Reply::hang()).await;
    let qa = question(&host, "w-deadline").await;
    let limited = ServiceBuilder::new()
        // Long enough for its LM call to begin, on a busy machine as well.
        .layer(DeadlineLayer::new(Duration::from_secs(5)))
        .service(qa.clone());
    match limited.oneshot(ask("?")).await {
        Err(Error::Elapsed(elapsed)) => {
            assert_eq!(elapsed.scope(), Scope::Deadline);
            assert_eq!(elapsed.stage(), Stage::Running);
            assert_eq!(elapsed.spent().unwrap().lm_calls.len(), 1);
        }
        other => panic!("{other:?}"),
    }
    let gone = |all: &[_]| matches!(all, [one] if is_gone(one));
    lm_server()
        .await
        .wait_for("w-deadline", gone)
        .await
        .unwrap();
    eventually("its permit", || qa.in_flight() == 0).await;
    stop(host).await;
}

fn is_gone(request: &tower_dspy::testing::scripted_lm::RequestRecord) -> bool {
    request.outcome == Outcome::ClientGone
}

#[tokio::test]
async fn a_cancelled_call_keeps_its_permit_until_its_clean_up_has_ended() {
    let host = one("w-cancel", Reply::hang()).await;
    let slow = load(&host, "cleanup:slow", "w-cancel").await;
    let token = CancellationToken::new();
    let call = tokio::spawn(
        slow.clone()
            .oneshot(ask_as("w-cancel").with_cancel(token.clone())),
    );
    let server = lm_server().await;
    server
        .wait_for("w-cancel", |all| all.len() == 1)
        .await
        .unwrap();
    token.cancel();
    let answer = call.await.unwrap();
    assert!(matches!(answer, Err(Error::Cancelled(_))), "{answer:?}");
    server
        .wait_for("w-cancel", |all| is_gone(&all[0]))
        .await
        .unwrap();
    eventually_seen(&host, "w-cancel", &["cleaning"]).await;
    assert_eq!((slow.in_flight(), host.stats().orphans), (1, 1));
    open(&host, "w-cancel").await;
    eventually("its permit", || slow.in_flight() == 0).await;
    assert_eq!(seen(&host, "w-cancel").await, ["cleaning", "cleaned"]);
    stop(host).await;
}

#[tokio::test]
async fn no_lm_call_begins_in_the_cleanup_of_a_cancelled_call() {
    let host = one("w-cleanup", Reply::hang()).await;
    let server = lm_server().await;
    for target in ["retries_on_any_error", "asks_again_in_its_cleanup"] {
        let program = load(&host, &format!("lm_calls:{target}"), "w-cleanup").await;
        let asked = server.requests("w-cleanup").len();
        let call = tokio::spawn(program.clone().oneshot(ask("?")));
        server
            .wait_for("w-cleanup", |all| all.len() > asked)
            .await
            .unwrap();
        call.abort();
        eventually("the work's end", || program.in_flight() == 0).await;
        assert_eq!(server.requests("w-cleanup").len(), asked + 1, "{target}");
    }
    stop(host).await;
}

#[tokio::test]
async fn a_thread_that_waits_for_its_lm_ends_with_its_call() {
    let host = one("w-thread", Reply::hang()).await;
    let server = lm_server().await;
    let program = load(&host, "lm_calls:asks_on_a_thread", "w-thread").await;
    let call = tokio::spawn(program.clone().oneshot(ask("?")));
    server
        .wait_for("w-thread", |all| all.len() == 1)
        .await
        .unwrap();
    call.abort();
    eventually("the thread's end", || program.in_flight() == 0).await;
    server.script("w-thread", Reply::answer("in time"));
    let answer = program.oneshot(ask("?")).await.unwrap();
    assert_eq!(answer.outputs["answer"], "in time");
    stop(host).await;
}

#[tokio::test]
async fn a_call_that_blocks_its_loop_can_read_that_it_is_cancelled() {
    let host = one("w-knows", Reply::hang()).await;
    let spins = "
import tower_dspy
async def spins(port: int):
    import socket
    socket.create_connection(('127.0.0.1', port)).close()
    while not tower_dspy.cancelled():
        pass
";
    let program = host
        .load_source(spins, "spins")
        .lm(lm("w-knows").await)
        .await
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let request = PredictRequest::new(json!({"port": port}));
    let call = tokio::spawn(program.clone().oneshot(request));
    listener.accept().await.unwrap();
    call.abort();
    eventually("its end", || program.in_flight() == 0).await;
    assert_eq!(host.worker_stats().unwrap().lost, 0);
    stop(host).await;
}

#[tokio::test]
async fn stdin_and_stdout_of_a_program_are_not_the_protocols() {
    let host = one("w-prints", Reply::echo()).await;
    let prints = "
import os, sys
async def prints():
    print('x' * 100_000)
    os.write(1, b'\\0' * 1000)
    os.write(2, b'\\0' * 1000)
    return {'stdin': sys.stdin.read(), 'arguments': len(sys.argv)}
";
    let prints = host.function("prints", Some(prints)).await.unwrap();
    for _ in 0..3 {
        let answer = prints.call(json!({})).await.unwrap();
        assert_eq!(answer["stdin"], "");
    }
    stop(host).await;
}

#[tokio::test]
async fn a_stopping_host_cancels_running_calls() {
    let host = one("w-stop", Reply::hang()).await;
    let path = std::env::temp_dir().join(format!("tower-dspy-stop-{}", std::process::id()));
    let key = path.to_str().unwrap();
    let program = load(&host, "cleanup:leaves_a_file", "w-stop").await;
    let call = tokio::spawn(program.clone().oneshot(ask_as(key)));
    lm_server()
        .await
        .wait_for("w-stop", |all| all.len() == 1)
        .await
        .unwrap();
    stop(host).await;
    let answer = call.await.unwrap();
    assert!(matches!(answer, Err(Error::Cancelled(_))), "{answer:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "cleaned");
    std::fs::remove_file(&path).unwrap();
    let late = program.oneshot(ask_as(key)).await;
    assert!(matches!(late, Err(Error::Lost(_))), "{late:?}");
}

#[tokio::test]
async fn dropping_the_last_handle_of_a_host_ends_its_workers() {
    let host = start(2).await;
    let processes = host.worker_stats().unwrap().processes;
    assert_eq!(processes.len(), 2);
    assert!(
        processes
            .iter()
            .all(|p| p.state == WorkerState::Ready && is_there(p.pid))
    );
    drop(host);
    eventually("their end", || !processes.iter().any(|p| is_there(p.pid))).await;
}

#[tokio::test]
async fn a_worker_that_cannot_start_reports_the_reason() {
    let empty = std::env::temp_dir();
    let error = Host::workers(1).venv(empty).start().await.unwrap_err();
    assert!(error.to_string().contains("is not a venv"), "{error}");
}
