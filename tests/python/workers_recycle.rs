//! Workers that are recycled for their age, their calls or their memory.

use std::time::Duration;

use serde_json::json;
use tower::ServiceExt;
use tower_dspy::{
    Error, Host, PredictRequest, WorkerState,
    testing::scripted_lm::{Gate, Reply},
};

use crate::{
    support::{ask, eventually, lm_server, load, question},
    workers::{stop, workers},
};

const MIB: u64 = 1 << 20;

fn recycled(host: &Host) -> u64 {
    host.worker_stats().unwrap().recycled
}

#[tokio::test]
async fn a_worker_is_recycled_after_its_number_of_calls_and_loses_none() {
    let server = lm_server().await;
    let gate = Gate::new();
    server.script("w-worn", Reply::echo());
    server.script("w-worn-held", Reply::echo().held_by(&gate));
    let host = workers(1).await.max_calls(2).start().await.unwrap();
    let qa = question(&host, "w-worn").await;
    let held = question(&host, "w-worn-held").await;
    let first = host.worker_stats().unwrap().processes[0].pid;

    let call = tokio::spawn(held.clone().oneshot(ask("held")));
    server
        .wait_for("w-worn-held", |all| all.len() == 1)
        .await
        .unwrap();
    qa.clone().oneshot(ask("?")).await.unwrap();
    // It has had its two. Another is there before it goes, and it stays for the call that it has.
    let retires = || {
        let processes = host.worker_stats().unwrap().processes;
        let old = processes.iter().find(|process| process.pid == first);
        old.is_some_and(|old| old.state == WorkerState::Retiring)
    };
    eventually("its successor", retires).await;
    assert_eq!(host.worker_stats().unwrap().ready(), 1);
    qa.clone().oneshot(ask("?")).await.unwrap();
    assert_eq!(recycled(&host), 0);
    gate.open();
    let answer = call.await.unwrap().unwrap();
    assert_eq!(answer.outputs["answer"], "You said: held");
    eventually("its end", || recycled(&host) == 1).await;

    for n in 0..20 {
        let answer = qa.clone().oneshot(ask(&n.to_string())).await.unwrap();
        assert_eq!(answer.outputs["answer"], format!("You said: {n}"));
    }
    eventually("more of them", || recycled(&host) > 1).await;
    let stats = host.worker_stats().unwrap();
    assert_eq!((stats.lost, stats.killed, stats.calls_lost), (0, 0, 0));
    stop(host).await;
}

#[tokio::test]
async fn a_worker_past_its_age_is_replaced_while_the_pool_keeps_its_size() {
    let age = Duration::from_millis(300);
    let host = workers(2).await.max_age(age).start().await.unwrap();
    eventually("three that were replaced", || {
        let stats = host.worker_stats().unwrap();
        assert!(stats.ready() >= 2, "{stats:?}");
        assert_eq!(stats.lost, 0);
        stats.recycled >= 3
    })
    .await;
    stop(host).await;
}

#[tokio::test]
async fn a_worker_that_grows_is_replaced() {
    let workers = workers(1).await.max_memory(300 * MIB);
    let host = workers.start().await.unwrap();
    let grows = "
import os
kept = []
async def grows(mib: int):
    kept.append(b'x' * (mib << 20))
    return os.getpid()
";
    let grows = host.function("grows", Some(grows)).await.unwrap();
    let small = grows.call(json!({"mib": 1})).await.unwrap();
    let large = grows.call(json!({"mib": 400})).await.unwrap();
    assert_eq!(small, large, "one that is within its limits was replaced");
    eventually("its successor", || recycled(&host) == 1).await;
    assert_ne!(grows.call(json!({"mib": 1})).await.unwrap(), large);
    assert_eq!(host.worker_stats().unwrap().lost, 0);
    stop(host).await;
}

#[tokio::test]
async fn memory_over_the_limit_is_refused_to_the_allocating_call() {
    lm_server().await.script("w-memory", Reply::echo());
    let workers = workers(1).await.memory_limit(512 * MIB);
    let host = workers.start().await.unwrap();
    let qa = question(&host, "w-memory").await;
    let allocates = load(&host, "ends:allocates_much", "w-memory").await;
    match allocates.oneshot(PredictRequest::new(json!({}))).await {
        Err(Error::Program(error)) => assert_eq!(error.python_type(), "MemoryError"),
        other => panic!("{other:?}"),
    }
    qa.oneshot(ask("?")).await.unwrap();
    assert_eq!(host.worker_stats().unwrap().lost, 0);
    stop(host).await;
}

#[tokio::test]
async fn a_memory_limit_below_the_workers_own_use_is_refused() {
    let workers = workers(1).await.memory_limit(10 * MIB);
    let error = workers.start().await.unwrap_err().to_string();
    assert!(error.contains("memory_limit is 10 MiB"), "{error}");
}
