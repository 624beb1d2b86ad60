//! What 10 000 predictions that wait for their LM at once take, in the host of this process: the memory
//! of each, and the time until all of them have ended after a cancel.
//!
//! Run: `cargo bench --bench in_flight`; `-- --calls 1000` for another number of calls.
//!
//! The LM is another process, so that the memory is that of the host and its service alone: the future,
//! the call, Python's task with its stack, the LM call with its connection. One node cancels all calls;
//! the time ends when the LM has seen the last connection close and the last call has settled.

mod lm_process;
mod process;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use lm_process::LmProcess;
use process::{CpuTimes, rss_kib};
use serde_json::json;
use support::{figure, host};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::ServiceExt;
use tower_dspy::{Cancel, Cause, DspyService, Host, Lm, PredictRequest};

const CALLS: usize = 10_000;
const WARM_UP: usize = 64;
/// Each process has one end of each connection.
const OTHER_DESCRIPTORS: usize = 200;

fn main() {
    let calls = calls();
    process::allow_descriptors(calls + OTHER_DESCRIPTORS);
    if lm_process::is_child() {
        return lm_process::serve();
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run(calls));
}

/// The number of calls; one with `--test`, as `cargo test --benches` asks whether it runs at all.
fn calls() -> usize {
    let mut calls = CALLS;
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next().expect("an argument") {
        match argument {
            lexopt::Arg::Long("calls") => {
                let value = arguments.value().expect("a number of calls");
                calls = value.to_string_lossy().parse().expect("a number of calls");
            }
            lexopt::Arg::Long("test") => calls = 1,
            _ => {}
        }
    }
    calls
}

async fn run(calls: usize) {
    let mut bench = Bench::start(calls).await;
    // Not measured: the first connections, the first cancellations.
    bench.start_calls(WARM_UP).await.cancel(&mut bench).await;

    let before = rss_kib();
    let started = Instant::now();
    let in_flight = bench.start_calls(calls).await;
    let start = started.elapsed();
    let memory = rss_kib().saturating_sub(before);
    let cpu = CpuTimes::now();
    let end = in_flight.cancel(&mut bench).await;
    let cpu = cpu.elapsed();
    let after = rss_kib().saturating_sub(before);

    println!("{calls} predictions that wait for their LM at once, {before} KiB of RSS before them");
    figure(
        "in_flight_memory_per_call",
        memory as f64 / calls as f64,
        "KiB",
    );
    figure("in_flight_memory_left", after as f64 / calls as f64, "KiB");
    figure("in_flight_start_all", ms(start), "ms");
    figure("in_flight_answered", ms(end.answered), "ms");
    figure("in_flight_closed", ms(end.closed), "ms");
    figure("in_flight_settled", ms(end.settled), "ms");
    figure(
        "in_flight_cancel_all",
        ms(end.closed.max(end.settled)),
        "ms",
    );
    for (thread, took) in cpu {
        println!("CPU of the cancel, thread {thread}: {:.1} ms", ms(took));
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

struct Bench {
    host: Host,
    lm: LmProcess,
    program: DspyService,
}

impl Bench {
    async fn start(calls: usize) -> Self {
        let (host, lm) = (host().await, LmProcess::start().await);
        let at = Lm::new("openai/silent")
            .base_url(&lm.base_url)
            .key("unused");
        let load = host.load("question -> answer").lm(at);
        let program = load
            .max_in_flight(calls.max(WARM_UP))
            .await
            .expect("a program");
        Self { host, lm, program }
    }

    /// Starts calls, and waits until the LM has the request of each.
    async fn start_calls(&mut self, calls: usize) -> InFlight {
        let (cancel, mut answers) = (Cancel::new(), JoinSet::new());
        for n in 0..calls {
            let question = json!({"question": format!("What is call number {n}?")});
            let request = PredictRequest::new(question).with_cancel(cancel.child());
            let answer = self.program.clone().oneshot(request);
            answers.spawn(async { answer.await.is_err() });
        }
        self.lm.wait_for(calls).await;
        InFlight { cancel, answers }
    }
}

/// Calls that wait for their LM.
struct InFlight {
    cancel: Cancel,
    answers: JoinSet<bool>,
}

/// The times from the cancel of all calls.
struct Ended {
    answered: Duration,
    closed: Duration,
    settled: Duration,
}

impl InFlight {
    /// Cancels all calls, and waits until the last has ended.
    async fn cancel(mut self, bench: &mut Bench) -> Ended {
        let began = Instant::now();
        self.cancel.cancel(Cause::Caller);
        let answered = async {
            while let Some(failed) = self.answers.join_next().await {
                assert!(failed.expect("no panic"), "an answer of a silent LM");
            }
            began.elapsed()
        };
        let closed = async {
            bench.lm.wait_for(0).await;
            began.elapsed()
        };
        let settled = async {
            let in_flight = || {
                let stats = bench.host.stats();
                stats.running + stats.queued
            };
            while in_flight() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
            began.elapsed()
        };
        let (answered, closed, settled) = tokio::join!(answered, closed, settled);
        Ended {
            answered,
            closed,
            settled,
        }
    }
}
