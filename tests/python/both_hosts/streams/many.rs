//! Many streams at once, half of them dropped.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::ServiceExt;
use tower_dspy::{
    Classify, ErrorKind,
    testing::scripted_lm::{Outcome, Reply, RequestRecord, ScriptedLm},
};

use super::reading::{Reading, read};
use crate::support::{ask, call, eventually, host_alone, lm};

const STREAMS: usize = 1000;

#[tokio::test]
async fn a_thousand_streams_at_once_of_which_half_are_dropped_leave_nothing_behind() {
    let seed = fastrand::u64(..);
    println!("seed: {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (host, server) = (host_alone().await, ScriptedLm::start().await.unwrap());
    let reply = |n: usize| match n % 4 {
        0 => Reply::echo(),
        1 => Reply::echo().split_every(1),
        2 => Reply::echo().drip(Duration::from_millis(20)),
        _ => Reply::echo().in_one_piece(),
    };
    server.script("many", (0..STREAMS).map(reply).collect::<Vec<_>>());
    let lm = lm("many").await.base_url(server.base_url());
    let qa = host
        .load("question -> answer")
        .max_in_flight(STREAMS)
        .lm(lm);
    let qa = qa.await.unwrap();
    let tasks = call(&host, "witness:tasks", serde_json::json!({})).await;
    let earlier = host.stats();

    let mut streams = JoinSet::new();
    for n in 0..STREAMS {
        let qa = qa.streaming();
        let life = (random.bool()).then(|| random.u64(0..3000));
        streams.spawn(async move {
            let question = format!("number {n}");
            let stream = async {
                let mut stream = qa.oneshot(ask(&question)).await?;
                let mut reading = Reading::default();
                while reading.next(&mut stream).await {}
                Ok::<_, tower_dspy::Error>(reading)
            };
            let read = match life {
                None => Some(stream.await),
                Some(life) => timeout(Duration::from_millis(life), stream).await.ok(),
            };
            let Some(read) = read else { return false };
            let read = read.unwrap();
            let answer = format!("You said: {question}");
            assert_eq!(read.answer(), &answer);
            assert_eq!(read.text(1, "answer"), answer);
            true
        });
    }
    let mut answered = 0;
    while let Some(ended) = streams.join_next().await {
        answered += usize::from(ended.unwrap());
    }
    assert!((STREAMS / 3..STREAMS).contains(&answered), "{answered}");

    eventually("the permits", || qa.in_flight() == 0).await;
    let at_rest = || {
        let stats = host.stats();
        let left = stats.running + stats.queued + stats.orphans + stats.streams;
        left == 0 && stats.settled - earlier.settled == stats.submitted - earlier.submitted
    };
    eventually("the end of all streams", at_rest).await;
    let submitted = host.stats().submitted - earlier.submitted;
    assert!(submitted as usize <= STREAMS && submitted as usize >= answered);
    let requests = server
        .wait_for("many", |all| all.iter().all(|r| r.ended().is_some()))
        .await
        .unwrap();
    let whole = |r: &&RequestRecord| r.outcome == Outcome::Answered;
    assert!(requests.iter().filter(whole).count() >= answered);
    assert_eq!(
        call(&host, "witness:tasks", serde_json::json!({})).await,
        tasks
    );
    server.script("many", Reply::echo());
    read(qa.streaming().oneshot(ask("is all well?")).await.unwrap())
        .await
        .prediction();
}

#[tokio::test]
async fn a_stream_holds_its_permit_until_its_end() {
    let host = host_alone().await;
    let server = crate::support::lm_server().await;
    let gate = tower_dspy::testing::scripted_lm::Gate::new();
    server.script("many-one", Reply::echo().pause_after(8, &gate));
    let qa = host
        .load("question -> answer")
        .max_in_flight(1)
        .lm(lm("many-one").await);
    let qa = qa.await.unwrap();
    let mut stream = qa.streaming().oneshot(ask("?")).await.unwrap();
    let mut reading = Reading::default();
    reading.until_text(&mut stream).await;
    assert_eq!((qa.in_flight(), host.stats().streams), (1, 1));
    let mut next = tokio::spawn(qa.clone().oneshot(ask("second?")));
    let early = tokio::select! {
        early = &mut next => Some(early),
        () = sleep(Duration::from_millis(300)) => None,
    };
    // It waits, or is refused; it does not run.
    if let Some(early) = early {
        assert_eq!(early.unwrap().unwrap_err().kind(), ErrorKind::Overloaded);
    }
    gate.open();
    reading.rest(stream).await.prediction();
    eventually("its permit", || qa.in_flight() == 0).await;
}
