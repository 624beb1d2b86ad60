//! From dropping the future of a prediction until the LM's server has seen its client go: a real
//! DSPy program and a real HTTP server that never answers, with 1 call in flight and with 64.
//!
//! Run: `cargo bench --bench cancellation`

mod support;

use std::{future::poll_fn, pin::Pin, task::Poll};

use serde_json::json;
use support::{Durations, count, figure, host, until, works_left};
use tokio::time::Instant;
use tower::{Service, ServiceExt};
use tower_dspy::{
    DspyService, Host, Lm, PredictRequest,
    service::PredictFuture,
    testing::{ScriptedLm, scripted_lm::Reply},
};

const ROUNDS_1: usize = 300;
const ROUNDS_64: usize = 30;

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

struct Bench {
    host: Host,
    lm: ScriptedLm,
}

impl Bench {
    async fn rounds(&self, name: &str, calls: usize, rounds: usize) -> Durations {
        let mut durations = Durations::new();
        for round in 0..rounds {
            // A model for each round: its records are of this round alone.
            let model = format!("{name}-{round:03}");
            self.lm.script(&model, Reply::hang());
            let lm = Lm::new(format!("openai/{model}"))
                .base_url(self.lm.base_url())
                .key("unused");
            let program = self.host.load("question -> answer").lm(lm);
            let program = program.max_in_flight(calls).await.expect("a program");
            self.round(&model, program, calls, &mut durations).await;
        }
        durations
    }

    async fn round(
        &self,
        model: &str,
        mut program: DspyService,
        calls: usize,
        durations: &mut Durations,
    ) {
        let mut futures = Vec::with_capacity(calls);
        for n in 0..calls {
            let request = PredictRequest::new(json!({"question": question(n)}));
            let program = program.ready().await.expect("readiness");
            let mut future = Box::pin(program.call(request));
            assert!(is_pending(&mut future).await, "an answer of a mute LM");
            futures.push(future);
        }
        let at_work = || self.lm.summary(model).running;
        assert!(until(|| at_work() == calls).await, "calls that do not come");

        let mut dropped = Vec::with_capacity(calls);
        for future in futures {
            dropped.push(Instant::now());
            drop(future);
        }
        // What is still at work after the wait is counted at the end too.
        until(|| at_work() == 0).await;
        works_left(&self.host).await;
        let records = self.lm.requests(model);
        assert_eq!(records.len(), calls, "requests, one a call");
        for (n, dropped) in dropped.into_iter().enumerate() {
            let question = question(n);
            let record = records
                .iter()
                .find(|record| record.body.to_string().contains(&question))
                .expect("the call's request");
            // One that is still at work has lasted until now at least.
            durations.record(record.client_gone.unwrap_or_else(Instant::now) - dropped);
        }
    }
}

/// No question is a part of another.
fn question(n: usize) -> String {
    format!("What is number {n}?")
}

async fn is_pending(future: &mut Pin<Box<PredictFuture>>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}
