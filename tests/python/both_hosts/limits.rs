//! The limits on running and on waiting calls.

use std::{
    task::{Context, Poll, Waker},
    time::Duration,
};

use serde_json::json;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_dspy::{
    Classify, DeadlineLayer, DspyService, Error, ErrorKind, PredictRequest, Stage, TimeoutLayer,
    testing::scripted_lm::{Gate, Reply},
};

use crate::support::{ask, call, eventually, host, lm, lm_server};

/// Enough for a call to begin, unless the machine is busy.
const BRIEF: Duration = Duration::from_millis(400);

fn poll_ready(service: &mut DspyService) -> Poll<Result<(), Error>> {
    service.poll_ready(&mut Context::from_waker(Waker::noop()))
}

fn work(key: &str) -> PredictRequest {
    PredictRequest::new(json!({"key": key}))
}

#[tokio::test]
async fn a_limit_of_one_never_runs_two_calls_even_after_timeouts() {
    let host = host().await;
    let program = host.load("counting:work").max_in_flight(1).await.unwrap();
    // On a busy machine a limit may pass before the call begins.
    for limit in [BRIEF, 10 * BRIEF, 50 * BRIEF] {
        let mut attempts = ServiceBuilder::new()
            .layer(TimeoutLayer::new(limit))
            .service(program.clone());
        // One after the other, each as soon as the permit of the one before is back.
        for _ in 0..5 {
            let answer = attempts.ready().await.unwrap().call(work("one")).await;
            assert!(
                matches!(&answer, Err(Error::Elapsed(elapsed)) if elapsed.stage() == Stage::Running),
                "{answer:?}"
            );
        }
        eventually("the permit", || program.in_flight() == 0).await;
        let counts = call(&host, "counting:counts", json!({"key": "one"})).await;
        assert!(counts["most"].as_u64() <= Some(1), "{counts}");
        assert_eq!(counts["running"], 0);
        // One began after another that was given up.
        if counts["begun"].as_u64() >= Some(2) {
            return;
        }
    }
    panic!("no two calls began");
}

#[tokio::test]
async fn five_calls_at_once_run_one_at_a_time_and_all_end_in_time() {
    let host = host().await;
    let program = host.load("counting:work").max_in_flight(1).await.unwrap();
    let calls = ServiceBuilder::new()
        // Long enough for one to begin, on a busy machine as well.
        .layer(DeadlineLayer::new(10 * BRIEF))
        .service(program.clone());
    let calls: Vec<_> = (0..5)
        .map(|_| tokio::spawn(calls.clone().oneshot(work("five"))))
        .collect();
    for call in calls {
        let answer = call.await.unwrap();
        assert!(matches!(answer, Err(Error::Elapsed(_))), "{answer:?}");
    }
    eventually("the permit", || program.in_flight() == 0).await;
    let counts = call(&host, "counting:counts", json!({"key": "five"})).await;
    assert_eq!(
        (&counts["most"], &counts["running"]),
        (&json!(1), &json!(0))
    );
}

#[tokio::test]
async fn past_max_waiting_the_service_is_ready_and_its_call_answers_overloaded() {
    let (host, server) = (host().await, lm_server().await);
    let gate = Gate::new();
    server.script("overload", Reply::echo().held_by(&gate));
    let load = host.load("question -> answer").lm(lm("overload").await);
    let mut qa = load.max_in_flight(1).max_waiting(2).await.unwrap();

    let first = tokio::spawn(qa.ready().await.unwrap().call(ask("first")));
    let (mut second, mut third) = (qa.clone(), qa.clone());
    assert!(poll_ready(&mut second).is_pending());
    assert!(poll_ready(&mut third).is_pending());
    // The service is alive: readiness is no error, the answer is.
    assert!(matches!(poll_ready(&mut qa), Poll::Ready(Ok(()))));
    let error = qa.call(ask("fourth")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.to_string().contains("max_waiting"), "{error}");

    // A place that is given up is free again.
    drop(third);
    assert!(poll_ready(&mut qa).is_pending());
    let mut fifth = qa.clone();
    assert!(poll_ready(&mut fifth).is_ready());

    gate.open();
    first.await.unwrap().unwrap();
    second
        .ready()
        .await
        .unwrap()
        .call(ask("second"))
        .await
        .unwrap();
    qa.ready().await.unwrap().call(ask("third")).await.unwrap();
    assert_eq!(qa.in_flight(), 0);
    assert_eq!(server.requests("overload").len(), 3);
}

#[tokio::test]
async fn an_unused_readiness_returns_its_permit() {
    let host = host().await;
    let mut qa = host.load("counting:work").max_in_flight(1).await.unwrap();
    qa.ready().await.unwrap();
    assert_eq!(qa.in_flight(), 1);
    // A clone has none of it.
    let mut clone = qa.clone();
    assert!(poll_ready(&mut clone).is_pending());
    drop(qa);
    clone.ready().await.unwrap();
    drop(clone);
}

#[tokio::test]
async fn a_call_without_readiness_takes_a_free_permit_or_is_overloaded() {
    let host = host().await;
    let mut program = host.load("counting:work").max_in_flight(1).await.unwrap();
    let first = program.call(work("unready"));
    assert_eq!(program.in_flight(), 1);
    let error = program.call(work("unready")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    drop(first);
    eventually("its permit", || program.in_flight() == 0).await;
}

#[tokio::test]
async fn a_refused_input_returns_its_permit() {
    let host = host().await;
    let mut program = host.load("counting:work").max_in_flight(1).await.unwrap();
    for _ in 0..3 {
        let call = program.ready().await.unwrap().call(ask("no such input"));
        let error = call.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(program.in_flight(), 0);
}
