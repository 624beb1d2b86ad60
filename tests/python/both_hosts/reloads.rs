//! Programs that are loaded again and again, and unloaded with all they were loaded with.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::time::{Instant, sleep};
use tower::{BoxError, ServiceExt, util::MapRequestLayer};
use tower_dspy::{
    DspyService, Host, Tool, ToolCall,
    lm::LmRequest,
    testing::scripted_lm::{Gate, Reply},
};

use crate::{
    blocker::Blocker,
    support::{ask, call, eventually, host, host_alone, lm, lm_server},
};

/// Loads a program whose LM and whose tool both hold `held`.
async fn load(host: &Host, model: &str, held: &Arc<()>) -> DspyService {
    let (by_lm, by_tool) = (held.clone(), held.clone());
    let lm = lm(model)
        .await
        .layer(MapRequestLayer::new(move |request: LmRequest| {
            let _held = &by_lm;
            request
        }));
    let tool = Tool::new("probe", "Is not called.", move |_: ToolCall| {
        let _held = &by_tool;
        async { Ok::<_, BoxError>(()) }
    });
    let load = host.load("reloads:Counted").lm(lm).tool(tool);
    load.await.expect("a program")
}

#[tokio::test]
async fn a_program_without_a_service_is_unloaded_with_its_lms_and_tools() {
    const LOADS: usize = 8;
    let (host, held) = (host().await, Arc::new(()));
    let mut kept = Vec::new();
    for n in 0..LOADS {
        let qa = load(&host, "reloads", &held).await;
        let clone = qa.clone();
        drop(qa);
        let answer = clone.clone().oneshot(ask("?")).await.expect("an answer");
        assert_eq!(answer.outputs["answer"], "You said: ?");
        if n % 2 == 0 {
            kept.push(clone);
        }
    }
    assert!(Arc::strong_count(&held) > kept.len());
    // Those that are left have not lost what is theirs.
    for qa in &kept {
        qa.clone().oneshot(ask("?")).await.expect("an answer");
    }
    eventually_alive(&host, kept.len()).await;
    drop(kept);
    eventually("LMs and tools to go", || Arc::strong_count(&held) == 1).await;
    eventually_alive(&host, 0).await;
}

async fn eventually_alive(host: &Host, expected: usize) {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let alive = call(host, "reloads:alive", json!({})).await;
        if alive == expected {
            return;
        }
        assert!(Instant::now() < end, "{alive} instead of {expected}");
        sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_call_in_flight_keeps_its_program_loaded() {
    let (host, server, gate) = (host().await, lm_server().await, Gate::new());
    server.script("reloads-kept", Reply::answer("at last").held_by(&gate));
    let held = Arc::new(());
    let qa = load(&host, "reloads-kept", &held).await;
    // The service goes with its only call.
    let asking = tokio::spawn(qa.oneshot(ask("?")));
    let asked = server.wait_for("reloads-kept", |all| all.len() == 1);
    asked.await.expect("a request");
    assert!(Arc::strong_count(&held) > 1);
    gate.open();
    let answer = asking.await.expect("no panic").expect("an answer");
    assert_eq!(answer.outputs["answer"], "at last");
    eventually("LMs and tools to go", || Arc::strong_count(&held) == 1).await;

    let echo = host
        .function("inputs:echo", None)
        .await
        .expect("a function");
    let echoed = echo.call(json!({"value": 1}));
    drop(echo);
    assert_eq!(echoed.await.expect("an answer"), json!({"value": 1}));
}

#[tokio::test]
async fn a_failed_or_dropped_load_leaves_nothing() {
    let (host, held) = (host_alone().await, Arc::new(()));
    let by_lm = held.clone();
    let lm = lm("reloads-failed")
        .await
        .layer(MapRequestLayer::new(move |request: LmRequest| {
            let _held = &by_lm;
            request
        }));
    let failed = host.load("reloads:nothing_of_this_name").lm(lm.clone());
    failed.await.expect_err("there is none");
    let given_up = host.load("reloads:Counted").lm(lm);
    // While the loop is held up, nothing is loaded.
    let blocker = Blocker::new(&host, "asks:blocks_the_loop").await;
    let mut given_up = Box::pin(given_up.into_future());
    assert!(futures_util::poll!(&mut given_up).is_pending());
    drop(given_up);
    blocker.release().await;
    eventually_alive(&host, 0).await;
    eventually("the LM to go", || Arc::strong_count(&held) == 1).await;
}
