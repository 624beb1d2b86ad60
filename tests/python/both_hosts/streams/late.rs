//! Readers that come late: when the program has answered, or when nobody else holds its host.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tower::ServiceExt;
use tower_dspy::{
    Cancel, Cause, Deadline, Error, PredictRequest, Scope,
    testing::scripted_lm::{Gate, Reply},
};

use super::reading::{Reading, read};
use crate::{
    support::{LIMIT, ask, eventually, host, host_alone, in_a_worker, lm_server, load, question},
    workers::workers,
};

#[tokio::test]
async fn an_answer_that_is_there_wins_against_the_ends_after_it() {
    let (host, server) = (host().await, lm_server().await);
    let targets = ["question -> answer", "streams:Sync"];
    join_all(targets.into_iter().enumerate().map(async |(n, target)| {
        let model = format!("late-{n}");
        server.script(&model, Reply::echo());
        let program = load(&host, target, &model).await;
        let node = Cancel::new();
        let limit = Duration::from_secs(10);
        let requests = [
            ask("?"),
            ask("?").with_cancel(node.clone()),
            ask("?").with_deadline(Deadline::within(limit)),
        ];
        let mut streams = Vec::new();
        for request in requests {
            streams.push(program.streaming().oneshot(request).await.unwrap());
        }
        eventually("the answers", || program.in_flight() == 0).await;
        // A permit is free before its call is settled, and until then a cancel ends the call.
        timeout(LIMIT, node.settled()).await.expect("its end");
        node.cancel(Cause::Caller);
        sleep(limit).await;
        for stream in streams {
            let read = read(stream).await;
            assert_eq!(read.text(1, "answer"), "You said: ?");
            assert_eq!(read.answer(), "You said: ?");
        }
    }))
    .await;
}

#[tokio::test]
async fn a_stream_keeps_its_host() {
    // The embedded interpreter is kept by the process.
    if !in_a_worker() {
        return;
    }
    let (host, gate) = (workers(1).await.start().await.unwrap(), Gate::new());
    let reply = Reply::echo().pause_after(8, &gate);
    lm_server().await.script("late-alone", reply);
    let program = question(&host, "late-alone").await;
    let mut stream = program.streaming().oneshot(ask("?")).await.unwrap();
    let mut reading = Reading::default();
    reading.until_text(&mut stream).await;
    drop((host, program));
    gate.open();
    assert_eq!(reading.rest(stream).await.answer(), "You said: ?");
}

#[tokio::test]
async fn the_deadline_ends_the_stream_of_a_program_that_blocks_its_interpreter() {
    let host = host_alone().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    lm_server().await.script("late-blocks", Reply::echo());
    let program = load(&host, "streams:Blocks", "late-blocks").await;
    let request = PredictRequest::new(json!({"question": "?", "port": port}));
    let request = request.with_deadline(Deadline::within(Duration::from_secs(8)));
    let accept = timeout(LIMIT, listener.accept());
    let (stream, peer) = tokio::join!(program.streaming().oneshot(request), accept);
    let (stream, peer) = (stream.unwrap(), peer.expect("it blocks").unwrap());
    let read = read(stream).await;
    match read.error() {
        Error::Elapsed(elapsed) => assert_eq!(elapsed.scope(), Scope::Deadline),
        other => panic!("{other:?}"),
    }
    assert_eq!(read.partial(), json!({"answer": "You said: ?"}));
    // It blocks still.
    assert_eq!(program.in_flight(), 1);
    drop(peer);
    eventually("its permit", || program.in_flight() == 0).await;
    eventually("its end", || host.stats().orphans == 0).await;
}
