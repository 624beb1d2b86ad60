//! Calls that wait before a blocked loop, of the embedded host alone: a worker process is handed
//! its calls at once.

use tower::{Service, ServiceExt};
use tower_dspy::{Classify, ErrorKind};

use crate::{
    blocker::Blocker,
    support::{HOUR, ask, eventually, lm_server, own_process, question, start},
};

#[tokio::test]
async fn queued_calls_are_lost_when_the_host_stops() {
    let name = "queued_calls::queued_calls_are_lost_when_the_host_stops";
    if own_process(name).await.is_some() {
        return;
    }
    let host = start().await;
    let mut qa = question(&host, "queued").await;
    let blocker = Blocker::new(&host, "asks:holds_the_gil").await;
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(tokio::spawn(qa.ready().await.unwrap().call(ask("queued"))));
    }
    eventually("the queue", || host.stats().queued == 3).await;

    let stopping = tokio::spawn({
        let host = host.clone();
        async move { host.stop(HOUR).await }
    });
    // They need not wait for the loop, which is blocked, nor for its end.
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
    }
    assert!(!stopping.is_finished());
    assert_eq!(qa.in_flight(), 0);

    drop(blocker);
    let stats = stopping.await.unwrap();
    assert_eq!((stats.running, stats.queued), (0, 0));
    assert_eq!(lm_server().await.requests("queued").len(), 0);
}
