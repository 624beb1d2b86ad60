//! Three LM calls of 400 ms each under a deadline of 1 s: 200 programs at once, whose third call
//! the deadline meets in the middle. Once as tasks on the loop, once as sync modules on threads.
//!
//! Counted at the LM's server: the calls that came to it after their program's deadline. Timed at
//! the caller: from the deadline until its future is ready.
//!
//! Run: `cargo bench --bench lm_deadline`

#[path = "../support/mod.rs"]
mod support;

use std::{path::Path, time::Duration};

use serde_json::json;
use support::{Durations, count, figure, until, venv, works_left};
use tokio::{task::JoinSet, time::Instant};
use tower::ServiceExt;
use tower_dspy::{
    Deadline, Error, Host, Lm, PredictRequest,
    testing::{
        ScriptedLm,
        scripted_lm::{Outcome, Reply},
    },
};

const ROUNDS: usize = 5;
const PROGRAMS: usize = 200;
const LIMIT: Duration = Duration::from_secs(1);
const LM_CALL: Duration = Duration::from_millis(400);

#[tokio::main]
async fn main() {
    let host = Host::embedded()
        .venv(venv().await)
        .python_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/lm_deadline"))
        .start()
        .await
        .expect("a host");
    let server = ScriptedLm::start().await.expect("a server");
    let mut found = vec![];
    for way in ["tasks", "threads"] {
        found.push((way, measure(&host, &server, way).await));
    }
    let left = works_left(&host).await;

    println!(
        "{ROUNDS} times {PROGRAMS} programs at once, of three LM calls of {LM_CALL:?} each, under \
         a deadline of {LIMIT:?}; the plain figures are the worse of the two ways to run them"
    );
    for (way, found) in &found {
        count(&format!("lm_calls_after_deadline_{way}"), found.after);
        count(&format!("lm_calls_{way}"), found.calls);
        count(&format!("lm_calls_broken_off_{way}"), found.broken_off);
        for (name, percentile) in [("p50", 50.0), ("p99", 99.0), ("max", 100.0)] {
            let overshoot = found.overshoot.ms(percentile);
            figure(&format!("program_overshoot_{way}_{name}"), overshoot, "ms");
        }
    }
    count("lm_deadline_works_left", left);
    let worst = found.iter().map(|(_, found)| found.after).max();
    count("lm_calls_after_deadline", worst.unwrap_or_default());
    let p99 = found.iter().map(|(_, found)| found.overshoot.ms(99.0));
    figure("program_overshoot_p99", p99.fold(0.0, f64::max), "ms");
}

struct Found {
    calls: u64,
    broken_off: u64,
    after: u64,
    overshoot: Durations,
}

async fn measure(host: &Host, server: &ScriptedLm, way: &str) -> Found {
    server.script(way, Reply::answer("so").delay(LM_CALL));
    let lm = Lm::new(format!("openai/{way}")).base_url(server.base_url());
    let load = host.load(format!("three_calls:{way}"));
    let load = load.lm(lm.key("unused")).max_in_flight(PROGRAMS);
    let program = load.await.expect("a program");
    let mut found = Found {
        calls: 0,
        broken_off: 0,
        after: 0,
        overshoot: Durations::new(),
    };
    for round in 0..=ROUNDS {
        let began = Instant::now();
        let deadline = Deadline::at(began + LIMIT);
        let mut calls = JoinSet::new();
        for n in 0..PROGRAMS {
            let request = PredictRequest::new(json!({"question": n.to_string()}));
            let call = program.clone().oneshot(request.with_deadline(deadline));
            calls.spawn(async move { (call.await, Instant::now()) });
        }
        let ends = calls.join_all().await;
        let quiet = || server.summary(way).running == 0 && program.in_flight() == 0;
        assert!(until(quiet).await, "calls that do not end");
        let records = server.requests(way);
        server.forget(way);
        // The first round warms up.
        if round == 0 {
            continue;
        }
        for (answer, end) in ends {
            assert!(matches!(answer, Err(Error::Elapsed(_))), "{answer:?}");
            let late = end.checked_duration_since(deadline.instant());
            found.overshoot.record(late.expect("no end is early"));
        }
        found.calls += records.len() as u64;
        for record in &records {
            found.after += u64::from(record.arrived > deadline.instant());
            found.broken_off += u64::from(record.outcome == Outcome::ClientGone);
        }
    }
    assert!(found.broken_off > 0, "no LM call met the deadline");
    found
}
