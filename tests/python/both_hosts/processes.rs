//! Child processes of a call are ended with it, and are part of it until they have ended.

use serde_json::json;
use tower::ServiceExt;
use tower_dspy::{DspyService, Host, PredictRequest};

use crate::support::{call, eventually, eventually_seen, host_alone, load, seen};

/// The id of the process that the program has noted under `key`.
async fn pid(host: &Host, key: &str) -> u32 {
    loop {
        if let Some(pid) = seen(host, key).await.first() {
            return pid.parse().unwrap();
        }
    }
}

async fn runs(host: &Host, pid: u32) -> bool {
    let runs = call(host, "processes:runs", json!({"pid": pid})).await;
    runs.as_bool().unwrap()
}

/// Cancels a call of `program` that waits for a process, and requires that both end.
async fn ends_with_its_call(host: &Host, program: &DspyService, key: &str) {
    let request = PredictRequest::new(json!({"key": key}));
    let waiting = tokio::spawn(program.clone().oneshot(request));
    let pid = pid(host, key).await;
    waiting.abort();
    eventually("its permit", || program.in_flight() == 0).await;
    assert!(!runs(host, pid).await, "{key}");
    eventually_seen(host, key, &[&pid.to_string(), "cleaned"]).await;
    assert_eq!(host.stats().orphans, 0, "{key}");
}

#[tokio::test]
async fn a_process_of_subprocess_is_told_to_stop_when_its_call_is_cancelled() {
    let host = host_alone().await;
    let program = load(&host, "processes:Popen", "unused").await;
    ends_with_its_call(&host, &program, "rust-popen").await;
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_is_killed_after_the_grace() {
    let host = host_alone().await;
    let program = load(&host, "processes:Ignores", "unused").await;
    ends_with_its_call(&host, &program, "rust-ignores").await;
}
