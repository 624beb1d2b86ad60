//! From dropping the future of a prediction until the LM's server has seen its client go: a real
//! DSPy program and a real HTTP server that never answers, with 1 call in flight and with 64. And
//! until the thread of a sync program that waits has ended, see sync_waits.rs.
//!
//! Run: `cargo bench --bench cancellation`

mod support;
#[path = "cancellation/sync_waits.rs"]
mod sync_waits;

use std::{future::poll_fn, path::Path, pin::Pin, task::Poll};

use serde_json::{Value, json};
use support::{Durations, count, figure, until, venv, works_left};
use tokio::time::Instant;
use tower::{Service, ServiceExt};
use tower_dspy::{
    Host, Lm, PredictRequest,
    service::PredictFuture,
    testing::scripted_lm::{Reply, ScriptedLm},
};

const ROUNDS_1: usize = 300;
const ROUNDS_64: usize = 120;

#[tokio::main]
async fn main() {
    let bench = Bench {
        host: host().await,
        lm: ScriptedLm::start().await.expect("an LM server"),
    };
    // Not measured: the first connections, the first cancellations.
    bench.rounds("warm-up", 64, 2).await;
    let one = bench.rounds("c1", 1, ROUNDS_1).await;
    let many = bench.rounds("c64", 64, ROUNDS_64).await;
    let left = works_left(&bench.host).await;
    let lm = bench.lm.summary("");
    sync_waits::measure(&bench.host).await;

    println!(
        "time from dropping a prediction to its disconnect at the LM; {} calls one at a time, {} \
         calls 64 at a time; the first figures are the worse of the two",
        one.len(),
        many.len(),
    );
    for (name, percentile) in [("p50", 50.0), ("p99", 99.0)] {
        let (one, many) = (one.ms(percentile), many.ms(percentile));
        figure(&format!("cancel_to_disconnect_{name}"), one.max(many), "ms");
        figure(&format!("cancel_to_disconnect_c1_{name}"), one, "ms");
        figure(&format!("cancel_to_disconnect_c64_{name}"), many, "ms");
    }
    count("orphaned_lm_requests", lm.running as u64);
    count("cancel_lm_requests", lm.requests as u64);
    count("cancel_works_left", left);
}

async fn host() -> Host {
    Host::embedded()
        .venv(venv().await)
        .python_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/cancellation"))
        .start()
        .await
        .expect("a host")
}

struct Bench {
    host: Host,
    lm: ScriptedLm,
}

impl Bench {
    /// Starts `calls` predictions and drops them once the LM works on all of them; `rounds` times.
    async fn rounds(&self, model: &str, calls: usize, rounds: usize) -> Durations {
        self.lm.script(model, Reply::hang());
        let lm = Lm::new(format!("openai/{model}"))
            .base_url(self.lm.base_url())
            .key("unused");
        let program = self.host.load("question -> answer").lm(lm);
        let mut program = program.max_in_flight(calls).await.expect("a program");
        let at_work = || self.lm.summary(model).running;

        let mut dropped = Vec::with_capacity(rounds * calls);
        for _ in 0..rounds {
            let mut futures = Vec::with_capacity(calls);
            for n in dropped.len()..dropped.len() + calls {
                let request = PredictRequest::new(json!({"question": question(n)}));
                let program = program.ready().await.expect("readiness");
                let mut future = Box::pin(program.call(request));
                assert!(is_pending(&mut future).await, "an answer of a mute LM");
                futures.push(future);
            }
            assert!(until(|| at_work() == calls).await, "calls that do not come");
            for future in futures {
                dropped.push(Instant::now());
                drop(future);
            }
            assert!(until(|| at_work() == 0).await, "calls that do not go");
            works_left(&self.host).await;
        }
        self.durations(model, &dropped)
    }

    /// From when each call was dropped until the LM saw it go.
    fn durations(&self, model: &str, dropped: &[Instant]) -> Durations {
        let records = self.lm.requests(model);
        assert_eq!(records.len(), dropped.len(), "requests, one a call");
        let mut durations = Durations::new();
        let mut seen = vec![false; dropped.len()];
        for record in records {
            let n = number_of(&record.body);
            assert!(!seen[n], "two requests of one call");
            seen[n] = true;
            durations.record(record.client_gone.expect("a client that went") - dropped[n]);
        }
        durations
    }
}

fn question(n: usize) -> String {
    format!("What is call number {n}?")
}

/// Which call's question is in this request.
fn number_of(body: &Value) -> usize {
    let body = body.to_string();
    let number = body.split("call number ").nth(1);
    let number = number.and_then(|rest| rest.split('?').next());
    number.and_then(|n| n.parse().ok()).expect("a question")
}

async fn is_pending(future: &mut Pin<Box<PredictFuture>>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}
