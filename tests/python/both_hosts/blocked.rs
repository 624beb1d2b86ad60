//! Python code that blocks the loop or holds the GIL. Nothing in Rust waits for it.

use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    DeadlineLayer, Error, Health, PredictRequest, Stage,
    testing::scripted_lm::{Outcome, Reply},
};

use crate::{
    blocker::Blocker,
    support::{ask, eventually, host, host_alone, in_a_worker, lm_server, load, question},
};

/// Enough for a call to be handed to its host, on a busy machine as well.
const BRIEF: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_c_call_that_holds_the_gil_delays_no_deadline_and_shows_in_the_health() {
    let (host, lm) = (host_alone().await, lm_server().await);
    lm.script("gil", Reply::hang());
    let qa = question(&host, "gil").await;
    let limited = ServiceBuilder::new()
        .layer(DeadlineLayer::new(BRIEF))
        .service(qa.clone());
    let token = CancellationToken::new();
    let waiting = tokio::spawn(qa.clone().oneshot(ask("early").with_cancel(token.clone())));
    lm.wait_for("gil", |all| all.len() == 1).await.unwrap();
    eventually("a healthy host", || host.health() == Health::Ready).await;

    let blocker = Blocker::new(&host, "asks:holds_the_gil").await;
    let blocked = |health| matches!(health, Health::Blocked { gil_held: true, .. });
    eventually("the held GIL to show", || blocked(host.health())).await;
    // A call that Python does not even see, and one that waits for the LM.
    let late = limited.clone().oneshot(ask("late")).await;
    assert!(
        matches!(&late, Err(Error::Elapsed(elapsed)) if elapsed.stage() == Stage::Running),
        "{late:?}"
    );
    token.cancel();
    let early = waiting.await.unwrap();
    assert!(matches!(early, Err(Error::Cancelled(_))), "{early:?}");
    // All that came about while the C call went on.
    eventually("the held GIL to show still", || blocked(host.health())).await;
    assert!(!blocker.call.is_finished());
    // A worker has been handed it already, and is about to read it.
    let queued = u64::from(!in_a_worker());
    assert_eq!((host.stats().queued, qa.in_flight()), (queued, 2));

    blocker.release().await;
    eventually("a healthy host", || host.health() == Health::Ready).await;
    eventually("the permits", || qa.in_flight() == 0).await;
    lm.wait_for("gil", |all| all[0].outcome == Outcome::ClientGone)
        .await
        .unwrap();
    // The call that elapsed in the queue never ran.
    assert_eq!(lm.requests("gil").len(), 1);
    eventually("no orphans", || host.stats().orphans == 0).await;
}

#[tokio::test]
async fn programs_that_block_threads_starve_no_other() {
    let host = host().await;
    let qa = question(&host, "threads").await;
    let mut blockers = Vec::new();
    for _ in 0..4 {
        blockers.push(Blocker::new(&host, "asks:waits_in_a_thread").await);
    }
    for n in 0..4 {
        let question = format!("number {n}");
        let answer = qa.clone().oneshot(ask(&question)).await.unwrap();
        assert_eq!(answer.outputs["answer"], format!("You said: {question}"));
    }
    for blocker in blockers {
        assert!(!blocker.call.is_finished());
        blocker.release().await;
    }
}

#[tokio::test]
async fn a_blocked_thread_keeps_its_calls_permit() {
    let host = host_alone().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let program = load(&host, "asks:waits_in_a_thread", "unused").await;
    let token = CancellationToken::new();
    let request = PredictRequest::new(json!({"port": port})).with_cancel(token.clone());
    let call = tokio::spawn(program.clone().oneshot(request));
    let (peer, _) = listener.accept().await.unwrap();

    token.cancel();
    let answer = call.await.unwrap();
    assert!(matches!(answer, Err(Error::Cancelled(_))), "{answer:?}");
    // The thread cannot be stopped, so it is counted until it ends by itself.
    eventually("the task's end", || host.stats().cancelled > 0).await;
    let next = load(&host, "asks:limits", "unused").await;
    next.oneshot(PredictRequest::new(json!({}))).await.unwrap();
    assert_eq!(program.in_flight(), 1);
    assert_eq!(host.stats().orphans, 1);

    drop(peer);
    eventually("its permit", || program.in_flight() == 0).await;
    eventually("no orphans", || host.stats().orphans == 0).await;
}
