//! Three LM calls of 400 ms each under a deadline of 1 s: 200 programs at once, whose third call
//! the deadline meets in the middle. Once as async programs on the loop, once as sync ones on
//! threads of the host's, and once as async ones that hand their LM calls to `dspy.asyncify`.
//!
//! Counted as after the deadline: the requests that a connection took to write later than that, by
//! this process's clock. The LM's server reads one when its thread has a turn, which on a busy
//! machine may be later, so what it read after the deadline is a figure of its own. What was to be
//! sent later still was kept back; so many there were, too. Timed at the caller: from the deadline
//! until its future is ready.
//!
//! Run: `cargo bench --bench lm_deadline`

#[path = "../support/mod.rs"]
mod support;

use std::{path::Path, time::Duration};

use serde_json::json;
use support::{Durations, count, figure, until, venv, works_left};
use tokio::{task::JoinSet, time::Instant};
use tower::{ServiceExt, util::MapRequestLayer};
use tower_dspy::{
    Deadline, Error, Host, Lm, PredictRequest,
    lm::{LmLog, LmRequest},
    testing::scripted_lm::{Outcome, Reply, ScriptedLm},
};

const ROUNDS: usize = 5;
const PROGRAMS: usize = 200;
const LIMIT: Duration = Duration::from_secs(1);
const LM_CALL: Duration = Duration::from_millis(400);

/// Names of figures, and what is run for them.
const SIDES: [(&str, &str); 3] = [
    ("async", "on_the_loop"),
    ("sync", "Sync"),
    ("asyncify", "by_asyncify"),
];

#[tokio::main]
async fn main() {
    let host = Host::embedded()
        .venv(venv().await)
        .python_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/lm_deadline"))
        .sync_threads(PROGRAMS)
        .start()
        .await
        .expect("a host");
    let server = ScriptedLm::start().await.expect("a server");
    let mut found = vec![];
    for (side, target) in SIDES {
        found.push((side, measure(&host, &server, target).await));
    }
    let left = works_left(&host).await;

    println!(
        "{ROUNDS} times {PROGRAMS} programs at once, of three LM calls of {LM_CALL:?} each, under \
         a deadline of {LIMIT:?}; the figures without a side are the worst of all sides"
    );
    for (side, found) in &found {
        count(&format!("lm_calls_after_deadline_{side}"), found.after);
        count(&format!("lm_calls_read_late_{side}"), found.read_late);
        count(&format!("lm_calls_kept_back_{side}"), found.kept_back);
        count(&format!("lm_calls_{side}"), found.calls);
        count(&format!("lm_calls_broken_off_{side}"), found.broken_off);
        for (name, percentile) in [("p50", 50.0), ("p99", 99.0), ("max", 100.0)] {
            let overshoot = found.overshoot.ms(percentile);
            figure(&format!("program_overshoot_{side}_{name}"), overshoot, "ms");
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
    read_late: u64,
    kept_back: u64,
    overshoot: Durations,
}

async fn measure(host: &Host, server: &ScriptedLm, target: &str) -> Found {
    server.script(target, Reply::answer("so").delay(LM_CALL));
    // Takes down what is sent also when the call that it is sent for has ended.
    let log = LmLog::new(4 * PROGRAMS * (ROUNDS + 1));
    // At the latest: what may have been late counts as late.
    let log_made = Instant::now();
    let logged = log.clone();
    let put_down = MapRequestLayer::new(move |mut request: LmRequest| {
        request.extensions_mut().insert(logged.clone());
        request
    });
    let lm = Lm::new(format!("openai/{target}")).base_url(server.base_url());
    let load = host.load(format!("three_calls:{target}"));
    let load = load.lm(lm.key("unused").layer(put_down));
    let program = load.max_in_flight(PROGRAMS).await.expect("a program");
    let mut found = Found {
        calls: 0,
        broken_off: 0,
        after: 0,
        read_late: 0,
        kept_back: 0,
        overshoot: Durations::new(),
    };
    for round in 0..=ROUNDS {
        let earlier = log.calls().len();
        let began = Instant::now();
        let deadline = Deadline::at(began + LIMIT);
        let mut calls = JoinSet::new();
        for n in 0..PROGRAMS {
            let request = PredictRequest::new(json!({"question": n.to_string()}));
            let call = program.clone().oneshot(request.with_deadline(deadline));
            calls.spawn(async move { (call.await, Instant::now()) });
        }
        let ends = calls.join_all().await;
        let quiet = || {
            let exchanges = host.stats().in_lm_calls as usize;
            (
                server.summary(target).running,
                program.in_flight(),
                exchanges,
            ) == (0, 0, 0)
        };
        assert!(until(quiet).await, "calls that do not end");
        let (records, calls) = (server.requests(target), log.calls().split_off(earlier));
        server.forget(target);
        // The first round warms up.
        if round == 0 {
            continue;
        }
        for (answer, end) in ends {
            assert!(matches!(answer, Err(Error::Elapsed(_))), "{answer:?}");
            let late = end.checked_duration_since(deadline.instant());
            found.overshoot.record(late.expect("no end is early"));
        }
        let sent: Vec<_> = calls.iter().filter_map(|call| call.sent).collect();
        assert!(records.len() <= sent.len(), "requests that nobody sent");
        found.kept_back += (calls.len() - sent.len()) as u64;
        let late = |sent: &&Duration| log_made + **sent > deadline.instant();
        found.after += sent.iter().filter(late).count() as u64;
        found.calls += records.len() as u64;
        for record in &records {
            found.read_late += u64::from(record.arrived > deadline.instant());
            found.broken_off += u64::from(record.outcome == Outcome::ClientGone);
        }
    }
    assert_eq!(log.lost(), 0, "the log was too short");
    assert!(found.broken_off > 0, "no LM call met the deadline");
    found
}
