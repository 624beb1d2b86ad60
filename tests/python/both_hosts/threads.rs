//! Threads that a program makes by itself keep its permit, and end with it where they can.

use serde_json::json;
use tower::ServiceExt;
use tower_dspy::{PredictRequest, testing::scripted_lm::Reply};

use crate::support::{call, eventually, eventually_seen, host_alone, lm_server, load, seen};

#[tokio::test]
async fn a_thread_of_asyncify_or_of_its_own_keeps_its_calls_permit_and_is_named_a_stray() {
    let host = host_alone().await;
    for way in ["anyio", "pool", "thread"] {
        let key = format!("rust-left-{way}");
        let program = load(&host, &format!("threads:leaves_{way}"), "unused").await;
        let before = host.stats().strays;
        let request = PredictRequest::new(json!({"key": key}));
        program.clone().oneshot(request).await.unwrap();
        assert_eq!((program.in_flight(), host.stats().orphans), (1, 1), "{way}");

        call(&host, "sync:open_thread_gate", json!({"key": key})).await;
        eventually("its permit", || program.in_flight() == 0).await;
        assert!(host.stats().strays > before, "{way}");
        assert_eq!(seen(&host, &key).await, ["running"], "{way}");
    }
}

#[tokio::test]
async fn a_busy_thread_of_asyncify_or_of_its_own_ends_with_its_call() {
    let host = host_alone().await;
    for way in ["anyio", "pool", "thread"] {
        let key = format!("rust-busy-{way}");
        let program = load(&host, &format!("threads:busy_{way}"), "unused").await;
        let request = PredictRequest::new(json!({"key": key}));
        let busy = tokio::spawn(program.clone().oneshot(request));
        eventually_seen(&host, &key, &["running"]).await;
        busy.abort();
        eventually("its permit", || program.in_flight() == 0).await;
        assert_eq!(seen(&host, &key).await, ["running", "cleaned"], "{way}");
    }
}

#[tokio::test]
async fn threads_left_by_dspy_parallel_keep_the_permit_of_their_call() {
    let (host, lm) = (host_alone().await, lm_server().await);
    lm.script("parallel-left", Reply::hang());
    let program = load(&host, "threads:leaves_a_parallel", "parallel-left").await;
    let key = "parallel-left";
    let request = PredictRequest::new(json!({"key": key, "question": "?"}));
    let asking = tokio::spawn(program.clone().oneshot(request));
    lm.wait_for(key, |all| all.len() == 2).await.unwrap();
    asking.abort();
    // Its two threads swallow the end of their LM calls and wait for the test.
    eventually_seen(&host, key, &["swallowed", "swallowed"]).await;
    assert_eq!(program.in_flight(), 1);
    call(&host, "sync:open_thread_gate", json!({"key": key})).await;
    eventually("its permit", || program.in_flight() == 0).await;
    assert_eq!(lm.requests(key).len(), 2);
}
