//! The waits of sync code end with their call, wherever it runs; those of its clean-up do not.

use std::time::Duration;

use serde_json::json;
use tokio::{net::TcpListener, time::sleep};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_dspy::{Error, Health, Host, PredictRequest};

use crate::support::{call, eventually, eventually_seen, host_alone, load};

/// The waits of programs/waits.py; a loop runs on a thread alone.
const ON_A_THREAD: &str = "runs_a_loop";
const WAITS: &[&str] = &[
    "sleeps",
    "event",
    "queued",
    "future",
    "receives",
    "receives_with_a_limit",
    "asks_http",
    "shakes_hands",
    "polls",
    "selects",
    "sends",
    "in_c",
    ON_A_THREAD,
];

/// Starts a program that waits, and cancels it so long after it has begun.
async fn cancel_after(host: &Host, way: &str, wait: &str, delay: Duration) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let name = format!("waits:{way}.{wait}");
    let key = format!("{name} {}", delay.as_millis());
    let program = load(host, &name, "unused").await;
    let token = CancellationToken::new();
    let request = PredictRequest::new(json!({"key": key, "port": port}));
    let mut waiting = tokio::spawn(program.clone().oneshot(request.with_cancel(token.clone())));
    let peer = tokio::select! {
        peer = listener.accept() => peer.unwrap(),
        answer = &mut waiting => panic!("{key}: {answer:?}"),
    };
    sleep(delay).await;
    token.cancel();
    let answer = waiting.await.unwrap();
    assert!(
        matches!(answer, Err(Error::Cancelled(_))),
        "{key}: {answer:?}"
    );
    // It goes no further, sees no error of its own, and cleans up.
    eventually_seen(host, &key, &["cleaned"]).await;
    eventually(&key, || program.in_flight() == 0).await;
    eventually(&key, || host.stats().orphans == 0).await;
    drop(peer);
}

#[tokio::test]
async fn waits_end_with_their_call_on_the_loop_and_on_threads_of_the_host() {
    let host = host_alone().await;
    for way in ["Loop", "Sync"] {
        for wait in WAITS
            .iter()
            .filter(|wait| way != "Loop" || **wait != ON_A_THREAD)
        {
            cancel_after(&host, way, wait, Duration::from_millis(150)).await;
        }
    }
    eventually("a healthy host", || host.health() == Health::Ready).await;
}

#[tokio::test]
async fn waits_end_with_their_call_on_threads_that_programs_start() {
    let host = host_alone().await;
    for way in ["Asyncify", "ToThread", "Pool", "Thread"] {
        for wait in ["sleeps", "shakes_hands", "selects", "in_c", ON_A_THREAD] {
            cancel_after(&host, way, wait, Duration::from_millis(100)).await;
        }
    }
    eventually("a healthy host", || host.health() == Health::Ready).await;
}

/// A thread that was told on its way into the wait is ended there.
#[tokio::test]
async fn a_call_that_is_cancelled_as_it_begins_to_wait_ends() {
    let host = host_alone().await;
    for micros in [0, 50, 100, 200, 400, 800] {
        for wait in ["sleeps", "receives", "in_c", "selects"] {
            let (listener, token) = (
                TcpListener::bind("127.0.0.1:0").await.unwrap(),
                CancellationToken::new(),
            );
            let port = listener.local_addr().unwrap().port();
            let program = load(&host, &format!("waits:Sync.{wait}"), "unused").await;
            let inputs = json!({"key": format!("{wait} {micros}"), "port": port});
            let request = PredictRequest::new(inputs).with_cancel(token.clone());
            let waiting = tokio::spawn(program.clone().oneshot(request));
            let _peer = listener.accept().await.unwrap();
            sleep(Duration::from_micros(micros)).await;
            token.cancel();
            waiting.await.unwrap().unwrap_err();
            eventually("its permit", || program.in_flight() == 0).await;
        }
    }
    let echo = call(&host, "inputs:echo", json!({"value": 1})).await;
    assert_eq!(echo["value"], 1);
}
