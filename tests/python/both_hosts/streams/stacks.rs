//! Streams in stacks that track and shut down, and hosts and workers that end in mid-stream.

use std::{process::Command, time::Duration};

use tower::{Layer, ServiceExt};
use tower_dspy::{
    CallStatus, Classify, Error, ErrorKind, PredictionStream, Shutdown, ShutdownLayer, TrackLayer,
    Tracker,
    testing::scripted_lm::{Gate, Outcome, Reply, RequestRecord},
};

use super::reading::{Reading, is_well_after, lm_ended};
use crate::{
    support::{
        HOUR, LIMIT, ask, eventually, host, in_a_worker, lm, lm_server, own_process, question,
        start,
    },
    workers::{stop, workers},
};

/// A model that writes up to the first word of its answer, and goes on at the gate.
async fn pauses(model: &str) -> Gate {
    let gate = Gate::new();
    let reply = Reply::echo().pause_after(8, &gate);
    lm_server().await.script(model, reply);
    gate
}

async fn begin(stream: Result<PredictionStream, Error>) -> (Reading, PredictionStream) {
    let (mut stream, mut reading) = (stream.unwrap(), Reading::default());
    reading.until_text(&mut stream).await;
    (reading, stream)
}

fn assert_partial(read: &Reading) {
    let partial = read.partial();
    assert_eq!(partial["answer"], read.text(1, "answer"), "{read:?}");
}

#[tokio::test]
async fn a_tracker_counts_a_stream_until_its_end_and_can_cancel_it() {
    let host = host().await;
    let gate = pauses("stack-tracked").await;
    let program = question(&host, "stack-tracked").await;
    let tracker = Tracker::new().with_history(8);
    let stack = TrackLayer::new(tracker.clone()).layer(program.streaming());

    let (whole, stream) = begin(stack.clone().oneshot(ask("?")).await).await;
    let (cancelled, other) = begin(stack.clone().oneshot(ask("?")).await).await;
    assert_eq!((tracker.calls().len(), tracker.counts().running), (2, 2));
    let last = tracker.calls().pop().unwrap();
    assert!(tracker.cancel(last.id).signalled());
    let cancelled = cancelled.rest(other).await;
    assert_eq!(cancelled.error().kind(), ErrorKind::Cancelled);
    assert_partial(&cancelled);
    assert_eq!(tracker.calls().len(), 1);
    let gone = |all: &[RequestRecord]| all.iter().any(|r| r.outcome == Outcome::ClientGone);
    let server = lm_server().await;
    server.wait_for("stack-tracked", gone).await.unwrap();
    gate.open();
    whole.rest(stream).await.prediction();
    assert!(tracker.is_empty());
    let counts = tracker.counts();
    assert_eq!(
        (counts.completed, counts.cancelled, counts.failed),
        (1, 1, 0)
    );
    let statuses: Vec<_> = tracker.history().iter().map(|call| call.status).collect();
    assert!(statuses.contains(&CallStatus::Completed), "{statuses:?}");
    let _gate = pauses("stack-tracked").await;
    drop(stack.oneshot(ask("?")).await.unwrap());
    assert_eq!(tracker.counts().cancelled, 2);
    lm_ended("stack-tracked", 2).await;
    eventually("its permits", || program.in_flight() == 0).await;
}

#[tokio::test]
async fn a_shutdown_drains_streams_and_cancels_those_that_go_on() {
    let host = host().await;
    for drains in [true, false] {
        let model = format!("stack-shutdown-{drains}");
        let gate = pauses(&model).await;
        let program = question(&host, &model).await;
        let shutdown = Shutdown::new();
        let stack = ShutdownLayer::new(shutdown.clone()).layer(program.streaming());
        let (reading, stream) = begin(stack.clone().oneshot(ask("?")).await).await;
        assert_eq!(shutdown.in_flight(), 1);
        let drain = if drains { HOUR } else { Duration::ZERO };
        let report = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.run(drain, LIMIT).await }
        });
        eventually("its begin", || !shutdown.is_accepting()).await;
        let refused = stack.oneshot(ask("?")).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ShuttingDown);
        if drains {
            assert!(!report.is_finished());
            gate.open();
        }
        let read = reading.rest(stream).await;
        let report = report.await.unwrap();
        assert_eq!(
            (report.accepted, report.refused, report.abandoned),
            (1, 1, 0)
        );
        let (completed, cancelled) = if drains { (1, 0) } else { (0, 1) };
        assert_eq!((report.completed, report.cancelled), (completed, cancelled));
        if drains {
            read.prediction();
        } else {
            assert_eq!(read.error().kind(), ErrorKind::ShuttingDown);
            assert_partial(&read);
        }
        is_well_after(&program, &model, cancelled as usize, ask("?")).await;
    }
}

#[tokio::test]
async fn a_host_that_stops_ends_its_streams_with_their_partial_answers() {
    const NAME: &str = "both_hosts::streams::stacks::a_host_that_stops_ends_its_streams_with_their_partial_answers";
    if own_process(NAME).await.is_some() {
        return;
    }
    let host = start().await;
    let _gate = pauses("stack-stops").await;
    let program = question(&host, "stack-stops").await;
    let (reading, stream) = begin(program.streaming().oneshot(ask("?")).await).await;
    let unread = begin(program.streaming().oneshot(ask("?")).await).await;
    let before = tokio::spawn({
        let program = program.clone();
        async move { program.streaming().oneshot(ask("?")).await }
    });
    let stats = host.stop(Duration::from_secs(5)).await;
    assert_eq!((stats.running, stats.queued, stats.orphans), (0, 0, 0));
    let read = reading.rest(stream).await;
    let kind = read.error().kind();
    assert!(matches!(
        kind,
        ErrorKind::Cancelled | ErrorKind::ShuttingDown | ErrorKind::Lost
    ));
    assert_partial(&read);
    drop((unread, before));
    let all_gone = |all: &[RequestRecord]| all.iter().all(|r| r.outcome == Outcome::ClientGone);
    let server = lm_server().await;
    server.wait_for("stack-stops", all_gone).await.unwrap();
    eventually("the streams", || host.stats().streams == 0).await;
}

#[tokio::test]
async fn a_worker_that_is_killed_in_mid_stream_leaves_the_partial_answer() {
    // Without workers there is nobody to kill.
    if !in_a_worker() {
        return;
    }
    let host = workers(1).await.start().await.unwrap();
    let _gate = pauses("stack-killed").await;
    let program = question(&host, "stack-killed").await;
    let (reading, stream) = begin(program.streaming().oneshot(ask("?")).await).await;
    let pid = host.worker_stats().unwrap().processes[0].pid.to_string();
    assert!(
        Command::new("kill")
            .args(["-9", &pid])
            .status()
            .unwrap()
            .success()
    );
    let read = reading.rest(stream).await;
    assert!(matches!(read.error(), Error::Lost(_)), "{read:?}");
    assert_partial(&read);
    is_well_after(&program, "stack-killed", 1, ask("?")).await;
    eventually("the streams", || host.stats().streams == 0).await;
    stop(host).await;
}

#[tokio::test]
async fn a_program_that_is_replaced_finishes_its_streams() {
    // An interpreter imports a module once.
    if !in_a_worker() {
        return;
    }
    let host = host().await;
    let gate = pauses("stack-replaced").await;
    let program = question(&host, "stack-replaced").await;
    let (reading, stream) = begin(program.streaming().oneshot(ask("?")).await).await;
    let load = host
        .load("question -> answer")
        .lm(lm("stack-replaced").await);
    let replaced = program.replace(load);
    let (replaced, read) = tokio::join!(replaced, async {
        gate.open();
        reading.rest(stream).await
    });
    replaced.unwrap();
    assert_eq!(read.answer(), "You said: ?");
    is_well_after(&program, "stack-replaced", 0, ask("?")).await;
}
