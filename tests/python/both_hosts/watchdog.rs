//! The watchdog: causes of a blocked loop are distinguished, named, and interrupted where
//! permitted.

use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};
use tower_dspy::{
    CallContext, Classify, Error, ErrorKind, Health, PredictRequest, testing::scripted_lm::Reply,
};

use crate::{
    blocker::Blocker,
    captured_log::Captured,
    support::{
        ask, call, eventually, eventually_seen, host_alone, lm_server, load, own_process, question,
        seen, start,
    },
};

const BRIEF: Duration = Duration::from_millis(200);

fn keyed(key: &str) -> PredictRequest {
    PredictRequest::new(json!({"key": key}))
}

/// Whether the GIL shows as held, by a frame of `function` if a feature names it. Python's code
/// cannot, for it does not run then.
fn gil_held(health: &Health, function: &str) -> bool {
    let Health::Blocked {
        frame,
        gil_held: true,
        ..
    } = health
    else {
        return false;
    };
    match frame {
        Some(frame) => cfg!(feature = "py-spy") && frame.ends_with(&format!(" {function}")),
        None => !cfg!(feature = "py-spy"),
    }
}

/// The frame that blocks the loop, once it is known.
fn frame(health: &Health) -> Option<&str> {
    match health {
        Health::Blocked {
            frame: Some(frame),
            gil_held: false,
            ..
        } => Some(frame),
        _ => None,
    }
}

#[tokio::test]
async fn a_slow_lm_leaves_the_host_healthy() {
    let (host, lm) = (host_alone().await, lm_server().await);
    lm.script("health-slow", Reply::hang());
    let qa = question(&host, "health-slow").await;
    let calls: Vec<_> = (0..3)
        .map(|_| tokio::spawn(qa.clone().oneshot(ask("?"))))
        .collect();
    lm.wait_for("health-slow", |all| all.len() == 3)
        .await
        .unwrap();
    eventually("a healthy host", || host.health() == Health::Ready).await;
    assert_eq!((host.stats().in_lm_calls, host.stats().running), (3, 3));
    for call in calls {
        call.abort();
    }
    eventually("their ends", || host.stats().in_lm_calls == 0).await;
}

#[tokio::test]
async fn a_blocked_loop_is_distinguished_from_a_held_gil_and_its_frame_is_named() {
    let name = "both_hosts::watchdog::a_blocked_loop_is_distinguished_from_a_held_gil_and_its_frame_is_named";
    if own_process(name).await.is_some() {
        return;
    }
    let host = host_alone().await;
    let blocker = Blocker::new(&host, "asks:blocks_the_loop").await;
    eventually("the frame", || {
        frame(&host.health())
            .is_some_and(|frame| frame.contains("asks.py:") && frame.ends_with(" blocks_the_loop"))
    })
    .await;
    blocker.release().await;
    eventually("a healthy host", || host.health() == Health::Ready).await;

    let blocker = Blocker::new(&host, "asks:holds_the_gil").await;
    eventually("the held GIL", || gil_held(&host.health(), "hold_gil")).await;
    blocker.release().await;
    eventually("a healthy host", || host.health() == Health::Ready).await;
}

#[tokio::test]
async fn a_gil_held_by_a_thread_shows_in_the_health() {
    if own_process("both_hosts::watchdog::a_gil_held_by_a_thread_shows_in_the_health")
        .await
        .is_some()
    {
        return;
    }
    let host = host_alone().await;
    let blocker = Blocker::new(&host, "stuck:HoldsTheGil").await;
    eventually("the held GIL", || gil_held(&host.health(), "hold_gil")).await;
    blocker.release().await;
    eventually("a healthy host", || host.health() == Health::Ready).await;
}

#[tokio::test]
async fn an_overloaded_loop_is_saturated_and_not_blocked() {
    let (host, lm) = (host_alone().await, lm_server().await);
    lm.script("saturated", Reply::answer("x"));
    let program = load(&host, "asks:abreast", "saturated").await;
    let request = PredictRequest::new(json!({"question": "?", "times": 3000}));
    // Again and again: a machine that is quick enough is done before anybody looks.
    let asking = tokio::spawn(async move {
        loop {
            program.clone().oneshot(request.clone()).await.unwrap();
        }
    });
    eventually("saturation", || host.health() == Health::Saturated).await;
    asking.abort();
    eventually("a healthy host", || host.health() == Health::Ready).await;
}

#[tokio::test]
async fn a_cancelled_call_that_blocks_the_loop_in_python_is_interrupted() {
    let host = host_alone().await;
    let program = load(&host, "stuck:spins", "unused").await;
    let token = CancellationToken::new();
    let request = keyed("spins").with_cancel(token.clone());
    let call = tokio::spawn(program.clone().oneshot(request));
    let spins = || frame(&host.health()).is_some_and(|frame| frame.ends_with(" spins"));
    eventually("the block", spins).await;
    token.cancel();
    let answer = call.await.unwrap();
    assert!(matches!(answer, Err(Error::Cancelled(_))), "{answer:?}");
    eventually("its permit", || program.in_flight() == 0).await;
    eventually("a healthy host", || host.health() == Health::Ready).await;
    // One signal: what it awaits in its clean-up is not cut short.
    assert_eq!(
        seen(&host, "spins").await,
        ["spinning", "cleaning", "cleaned"]
    );
    eventually("no orphans", || host.stats().orphans == 0).await;
}

#[tokio::test]
async fn a_live_call_that_blocks_the_loop_is_not_interrupted() {
    let (host, lm) = (host_alone().await, lm_server().await);
    lm.script("wanted", Reply::hang());
    let qa = question(&host, "wanted").await;
    let other = tokio::spawn(qa.oneshot(ask("?")));
    lm.wait_for("wanted", |all| all.len() == 1).await.unwrap();
    let blocker = Blocker::new(&host, "asks:blocks_the_loop").await;
    eventually("the frame", || frame(&host.health()).is_some()).await;
    // That another call is over is no reason.
    let before = host.stats().cancelled;
    other.abort();
    eventually("the cancel", || host.stats().cancelled > before).await;
    tokio::time::sleep(BRIEF).await;
    // The watchdog lives, and looks at the loop: else the GIL would count as held.
    eventually("the frame", || frame(&host.health()).is_some()).await;
    assert!(!blocker.call.is_finished());
    blocker.release().await;
    eventually("all ends", || host.stats().running == 0).await;
}

#[tokio::test]
async fn an_idle_loop_with_a_cancelled_call_is_not_interrupted() {
    let host = host_alone().await;
    let mut program = load(&host, "stuck:swallows_and_waits", "unused").await;
    let running = tokio::spawn(program.ready().await.unwrap().call(keyed("idle")));
    eventually_seen(&host, "idle", &["waiting"]).await;
    running.abort();
    eventually_seen(&host, "idle", &["waiting", "swallowed"]).await;
    // Many looks of the watchdog later, the loop still answers.
    tokio::time::sleep(2 * BRIEF).await;
    assert_eq!(seen(&host, "idle").await, ["waiting", "swallowed"]);
    // The watchdog lives: it sees what blocks the loop, and leaves the other call alone still.
    let blocker = Blocker::new(&host, "asks:blocks_the_loop").await;
    eventually("the frame", || frame(&host.health()).is_some()).await;
    blocker.release().await;
    assert_eq!(seen(&host, "idle").await, ["waiting", "swallowed"]);
    crate::support::open(&host, "idle").await;
    eventually("its end", || program.in_flight() == 0).await;
}

#[tokio::test]
async fn a_stop_of_the_host_interrupts_a_call_that_blocks_the_loop() {
    let name = "both_hosts::watchdog::a_stop_of_the_host_interrupts_a_call_that_blocks_the_loop";
    if own_process(name).await.is_some() {
        return;
    }
    let host = start().await;
    let blocker = Blocker::new(&host, "nasty:Async.spins").await;
    let stats = host.stop(Duration::from_secs(20)).await;
    assert_eq!((stats.running, stats.orphans), (0, 0));
    let error = blocker.call.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShuttingDown, "{error}");
}

/// Lines that tell of a block by this program, in this one of its kinds. A load may block as well.
fn warnings(captured: &Captured, program: &str, gil_held: bool) -> Vec<String> {
    let named = format!("program=\"{program}\"");
    let kind = format!("gil_held={gil_held}");
    let text = captured.text();
    let lines = text.lines();
    let of_program = lines.filter(|line| line.contains(&named) && line.contains(&kind));
    of_program.map(str::to_owned).collect()
}

#[tokio::test]
async fn a_warning_names_program_call_and_frame_and_no_inputs() {
    let name = "both_hosts::watchdog::a_warning_names_program_call_and_frame_and_no_inputs";
    if own_process(name).await.is_some() {
        return;
    }
    let captured = Captured::from("warn");
    let host = start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for (program, holds_gil) in [
        ("asks:blocks_the_loop", false),
        ("asks:holds_the_gil", true),
    ] {
        let service = load(&host, program, "unused").await;
        let mut context = CallContext::new();
        let id = context.id();
        let inputs = json!({"port": port, "question": "a SECRET"});
        let request = PredictRequest::new(inputs).with_context(context);
        let blocking = tokio::spawn(service.oneshot(request));
        let (peer, _) = listener.accept().await.unwrap();
        if holds_gil {
            eventually("the held GIL", || gil_held(&host.health(), "hold_gil")).await;
        }
        if holds_gil && !cfg!(feature = "py-spy") {
            // With no frame there is nothing to warn of that the health does not say.
            drop(peer);
            blocking.await.unwrap().unwrap();
            assert_eq!(warnings(&captured, program, true), Vec::<String>::new());
            continue;
        }
        let warned = || warnings(&captured, program, holds_gil);
        eventually("a warning", || !warned().is_empty()).await;
        drop(peer);
        blocking.await.unwrap().unwrap();
        let [line] = &warned()[..] else {
            panic!("{}", captured.text());
        };
        assert!(line.contains(".py:"), "{line}");
        // Memory does not tell the call.
        let id = format!("call_id={}", id.get());
        assert_eq!(line.contains(&id), !holds_gil, "{line}");
        assert!(!line.contains("SECRET"), "{line}");
    }
    call(&host, "inputs:echo", json!({"value": 1})).await;
}
