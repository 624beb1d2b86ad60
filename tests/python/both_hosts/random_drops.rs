//! Many calls, dropped at random.

use std::time::Duration;

use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    CancelLayer, Deadline, Error, Prediction,
    testing::scripted_lm::{Outcome, Reply, RequestRecord, ScriptedLm},
};

use crate::support::{ask, call, eventually, host_alone, lm, question};

const CALLS: usize = 1000;
const AT_ONCE: usize = 16;
const SEED: u64 = 0x5EED;

#[tokio::test]
async fn a_thousand_calls_dropped_at_random_leave_nothing_behind() {
    // A server of its own, so that all its connections are this test's.
    let (host, server) = (host_alone().await, ScriptedLm::start().await.unwrap());
    let reply = |n: u64| match n % 4 {
        0 => Reply::hang(),
        1 => Reply::answer("quick"),
        2 => Reply::answer("one two three four").drip(Duration::from_millis(5)),
        _ => Reply::answer("in bytes").trickle(Duration::from_micros(500)),
    };
    let script: Vec<_> = (0..CALLS as u64).map(reply).collect();
    server.script("storm", script);
    let lm = lm("storm").await.base_url(server.base_url());
    let qa = host.load("question -> answer").lm(lm).await.unwrap();
    let with_grace = ServiceBuilder::new()
        .layer(CancelLayer::new().with_grace(Duration::from_millis(20)))
        .service(qa.clone());
    // Given up at any moment of their lives, as long as those are on this machine.
    let example = question(&host, "an example").await;
    let mut life = Duration::MAX;
    for _ in 0..3 {
        let began = Instant::now();
        example.clone().oneshot(ask("?")).await.unwrap();
        life = life.min(began.elapsed());
    }
    let latest = life * AT_ONCE as u32;

    let before = call(&host, "witness:tasks", json!({})).await;
    let earlier = host.stats();
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut calls = JoinSet::new();
    let mut answers = 0;
    for n in 0..CALLS {
        let (way, after) = (random.u8(0..5), latest.mul_f64(random.f64()));
        let (plain, graceful) = (qa.clone(), with_grace.clone());
        let request = ask(&format!("question {n}"));
        calls.spawn(async move {
            let token = CancellationToken::new();
            match way {
                // Dropped: by select, as a server drops a handler.
                0 => tokio::select! {
                    answer = plain.oneshot(request) => Some(answer),
                    () = sleep(after) => None,
                },
                1 => Some(
                    plain
                        .oneshot(request.with_deadline(Deadline::within(after)))
                        .await,
                ),
                2 | 3 => {
                    let request = request.with_cancel(token.clone());
                    let cancel = async {
                        sleep(after).await;
                        token.cancel();
                    };
                    let (answer, ()) = if way == 2 {
                        tokio::join!(plain.oneshot(request), cancel)
                    } else {
                        tokio::join!(graceful.oneshot(request), cancel)
                    };
                    Some(answer)
                }
                // Cancelled and then dropped.
                _ => {
                    let request = request.with_cancel(token.clone());
                    tokio::select! {
                        answer = graceful.oneshot(request) => Some(answer),
                        () = async {
                            sleep(after).await;
                            token.cancel();
                            tokio::task::yield_now().await;
                        } => None,
                    }
                }
            }
        });
        if calls.len() == AT_ONCE {
            answers += count(calls.join_next().await);
        }
    }
    while let Some(ended) = calls.join_next().await {
        answers += count(Some(ended));
    }
    assert!(answers < CALLS, "nothing was given up");

    eventually("the permits", || qa.in_flight() == 0).await;
    // A permit is free before its call counts as settled.
    eventually("the calls", || {
        let stats = host.stats();
        let settled = stats.settled - earlier.settled;
        (stats.queued, stats.running, stats.orphans) == (0, 0, 0)
            && settled == stats.submitted - earlier.submitted
    })
    .await;
    let requests = server
        .wait_for("storm", |all| all.iter().all(|r| r.ended().is_some()))
        .await
        .unwrap();
    let gone = |r: &&RequestRecord| r.outcome == Outcome::ClientGone;
    let gone = requests.iter().filter(gone).count();
    assert!(gone > 0, "of {} requests none was given up", requests.len());
    // What is open still is kept for the next calls.
    server
        .wait_for_connections(|open| open <= AT_ONCE)
        .await
        .unwrap();
    assert_eq!(call(&host, "witness:tasks", json!({})).await, before);
    server.script("storm", Reply::echo());
    qa.oneshot(ask("is all well?")).await.unwrap();
}

type Ended = Result<Option<Result<Prediction, Error>>, tokio::task::JoinError>;

/// 1 for an answer; a failure must be one of those that were asked for.
fn count(ended: Option<Ended>) -> usize {
    match ended.expect("a call").expect("no panic") {
        Some(Ok(_)) => 1,
        None | Some(Err(Error::Cancelled(_) | Error::Elapsed(_))) => 0,
        Some(Err(other)) => panic!("{other:?}: {other}"),
    }
}
