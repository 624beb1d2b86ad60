//! Child processes of a call end with it, and are part of it until they have ended.

use std::time::Duration;

use serde_json::json;
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{Error, Health, Host, PredictRequest, TimeoutLayer};

use crate::support::{call, eventually, eventually_noted, host_alone, load, open, seen};

/// Each way to start a process, and how many processes that makes.
const WAYS: &[(&str, usize)] = &[
    ("Popen", 1),
    // Killed after the grace.
    ("Ignores", 1),
    // With a process of its own, which ignores SIGTERM.
    ("Parent", 2),
    // With one in its process group alone.
    ("Session", 2),
    // A process that has ended, and has left one in its group.
    ("Background", 1),
    ("Forked", 1),
    ("Spawned", 1),
    ("ForkServer", 1),
    ("Sandboxed", 1),
    ("of_asyncio", 1),
    ("of_anyio", 1),
    ("holds_up", 1),
];

/// The ids of the processes that the program has noted under `key`.
async fn pids(host: &Host, key: &str, count: usize) -> Vec<u32> {
    let noted = eventually_noted(host, key, count).await;
    noted[..count]
        .iter()
        .map(|id| id.parse().unwrap())
        .collect()
}

async fn runs(host: &Host, pid: u32) -> bool {
    let runs = call(host, "processes:runs", json!({"pid": pid})).await;
    runs.as_bool().unwrap()
}

fn request(key: &str) -> PredictRequest {
    PredictRequest::new(json!({"key": key}))
}

/// Waits until a program waits for a process on the loop, which answers no call meanwhile.
async fn blocked(host: &Host) {
    eventually("the blocked loop", || {
        matches!(host.health(), Health::Blocked { frame: Some(frame), .. } if frame.contains("_wait"))
    })
    .await;
}

#[tokio::test]
async fn processes_end_with_their_cancelled_call_and_so_does_the_code_that_waits_for_them() {
    let host = host_alone().await;
    for (way, count) in WAYS {
        let key = format!("rust-process-{way}");
        let program = load(&host, &format!("processes:{way}"), "unused").await;
        let waiting = tokio::spawn(program.clone().oneshot(request(&key)));
        if *way == "holds_up" {
            blocked(&host).await;
        } else {
            pids(&host, &key, *count).await;
        }
        waiting.abort();
        eventually(&key, || program.in_flight() == 0).await;
        for pid in pids(&host, &key, *count).await {
            assert!(!runs(&host, pid).await, "{key}: {pid}");
        }
        let seen = seen(&host, &key).await;
        assert_eq!(seen[*count..], ["cleaned"], "{key}: {seen:?}");
        eventually(&key, || host.stats().orphans == 0).await;
    }
}

#[tokio::test]
async fn a_process_that_does_not_stop_keeps_its_calls_permit_and_is_named_a_stray() {
    let (host, key) = (host_alone().await, "rust-process-counted");
    let program = load(&host, "processes:ignored_by_asyncio", "unused").await;
    let before = host.stats().strays;
    let waiting = tokio::spawn(program.clone().oneshot(request(key)));
    let pid = pids(&host, key, 1).await[0];
    waiting.abort();
    eventually("an orphan", || host.stats().orphans == 1).await;
    assert_eq!(program.in_flight(), 1);
    assert!(runs(&host, pid).await);

    // Until it is killed.
    eventually("its permit", || program.in_flight() == 0).await;
    assert!(!runs(&host, pid).await);
    assert!(host.stats().strays > before);
}

#[tokio::test]
async fn a_limit_ends_the_processes_of_its_call() {
    let (host, key) = (host_alone().await, "rust-process-limit");
    let program = load(&host, "processes:Popen", "unused").await;
    let limited = ServiceBuilder::new()
        // Long enough for the process to start, on a busy machine as well.
        .layer(TimeoutLayer::new(Duration::from_secs(5)))
        .service(program.clone());
    let error = limited.oneshot(request(key)).await.unwrap_err();
    assert!(matches!(error, Error::Elapsed(_)), "{error}");
    eventually("its permit", || program.in_flight() == 0).await;
    assert_eq!(seen(&host, key).await.last().unwrap(), "cleaned");
    assert!(!runs(&host, pids(&host, key, 1).await[0]).await);
}

#[tokio::test]
async fn a_call_that_ends_by_itself_leaves_its_process_alone() {
    let (host, key) = (host_alone().await, "rust-process-left");
    let program = load(&host, "processes:leaves", "unused").await;
    open(&host, key).await;
    let before = host.stats().strays;
    program.clone().oneshot(request(key)).await.unwrap();
    eventually("its permit", || program.in_flight() == 0).await;
    let pid = pids(&host, key, 1).await[0];
    assert!(runs(&host, pid).await);
    assert_eq!(host.stats().strays, before);
    call(&host, "processes:kill", json!({"pid": pid})).await;
}

#[tokio::test]
async fn a_sandbox_that_a_program_keeps_serves_its_next_call() {
    let (host, key) = (host_alone().await, "rust-process-kept");
    let program = load(&host, "processes:keeps_a_sandbox", "unused").await;
    for _ in 0..2 {
        let answer = program.clone().oneshot(request(key)).await.unwrap();
        assert_eq!(answer.outputs["answer"], "2\n");
    }
    let pids = pids(&host, key, 2).await;
    assert_eq!(pids[0], pids[1]);
    call(&host, "processes:kill", json!({"pid": pids[0]})).await;
}
