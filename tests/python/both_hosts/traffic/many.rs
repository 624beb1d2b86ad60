//! Thousands of predictions, which leave nothing behind: no descriptor, no memory, no task, no
//! object.

use std::fs;

use futures_util::{StreamExt, stream};
use serde_json::json;
use tower::ServiceExt;
use tower_dspy::{DspyService, Host, testing::scripted_lm::ScriptedLm};

use crate::support::{ask, call, eventually, host_alone, lm};

const AT_ONCE: usize = 16;

/// Between two of these the server forgets what it was asked, as it is part of this process.
const CHUNK: usize = 500;

/// What must not grow with the number of predictions.
#[derive(Debug)]
struct Footprint {
    descriptors: u64,
    kilobytes: u64,
    tasks: u64,
    threads: u64,
    /// Objects that Python's collector knows of, and blocks of memory that Python holds.
    objects: u64,
    blocks: u64,
}

impl Footprint {
    async fn now(host: &Host) -> Self {
        let python = call(host, "traffic:footprint", json!({})).await;
        let python = |name: &str| python[name].as_u64().expect("a number");
        let descriptors = fs::read_dir("/proc/self/fd").expect("Linux").count();
        let status = fs::read_to_string("/proc/self/status").expect("Linux");
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number.and_then(|n| n.parse().ok()).expect("a number")
        };
        Self {
            descriptors: descriptors as u64,
            kilobytes: line("VmRSS:"),
            tasks: python("tasks"),
            threads: line("Threads:"),
            objects: python("objects"),
            blocks: python("blocks"),
        }
    }
}

async fn predictions(many: usize, qa: &DspyService, server: &ScriptedLm) {
    for begin in (0..many).step_by(CHUNK) {
        let calls = stream::iter(begin..many.min(begin + CHUNK));
        let calls = calls.map(|n| qa.clone().oneshot(ask(&format!("question {n}"))));
        let answers = calls.buffer_unordered(AT_ONCE);
        let all_well = answers.all(async |answer| answer.is_ok()).await;
        assert!(all_well, "a prediction failed");
        eventually("the permits", || qa.in_flight() == 0).await;
        server.forget("many");
    }
}

async fn leave_nothing_behind(many: usize) {
    let (host, server) = (host_alone().await, ScriptedLm::start().await.unwrap());
    let lm = lm("many").await.base_url(server.base_url());
    let qa = host.load("traffic:predict").lm(lm).await.unwrap();
    predictions(2 * CHUNK, &qa, &server).await;
    let before = Footprint::now(&host).await;
    predictions(many, &qa, &server).await;
    let after = Footprint::now(&host).await;
    eprintln!("{many} predictions\nbefore: {before:?}\nafter:  {after:?}");

    let many = many as u64;
    let grown = |what: fn(&Footprint) -> u64| what(&after).saturating_sub(what(&before));
    // Fewer than one for every ten predictions is none for each.
    assert!(grown(|f| f.objects) < many / 10, "{before:?} {after:?}");
    assert!(grown(|f| f.blocks) < many / 10, "{before:?} {after:?}");
    assert_eq!(grown(|f| f.tasks), 0, "{before:?} {after:?}");
    assert!(grown(|f| f.threads) <= 2, "{before:?} {after:?}");
    // The client may keep a connection more for later.
    assert!(
        grown(|f| f.descriptors) <= 2 * AT_ONCE as u64,
        "{before:?} {after:?}"
    );
    // Allocators keep pages; what a prediction leaves would have to be less than 1 kB.
    let spare = 8 * 1024;
    assert!(
        grown(|f| f.kilobytes) < spare + many,
        "{before:?} {after:?}"
    );
}

#[tokio::test]
async fn two_thousand_predictions_leave_nothing_behind() {
    leave_nothing_behind(2_000).await;
}

#[tokio::test]
#[ignore = "takes longer than a test should; `cargo test --test python ten_thousand -- --ignored`"]
async fn ten_thousand_predictions_leave_nothing_behind() {
    leave_nothing_behind(10_000).await;
}
