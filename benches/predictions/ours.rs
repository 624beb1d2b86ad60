//! Our side: the same words on stdin and stdout as `sides.py`.

use std::{env, io};

use futures_util::{StreamExt, stream};
use serde_json::json;
use tower::{Layer, ServiceExt, util::BoxCloneSyncService};
use tower_dspy::{
    Error, Host, Lm, PredictRequest, Prediction, TrackLayer, Tracker,
    inbound::axum::PrometheusMetrics,
};

/// The CPU time of the process with all its threads, by the clock that the Python sides read.
const CLOCK: &str = "
import time

async def cpu(): return time.process_time()
";

/// A program, as it is, observed, or another one.
pub(crate) type Program = BoxCloneSyncService<PredictRequest, Prediction, Error>;

pub(crate) async fn run(host: &Host, observed: bool) {
    let url = env::var("TOWER_DSPY_BENCH_URL").expect("the LM's URL");
    let lm = Lm::new("openai/bench").base_url(url).key("unused");
    let load = host.load("question -> answer").lm(lm).max_in_flight(1024);
    let program = load.await.expect("a program");
    let mut exporter = None;
    let program = if observed {
        exporter = Some(PrometheusMetrics::install().expect("the first exporter"));
        let tracker = Tracker::new().with_samples(10);
        let track = TrackLayer::new(tracker).with_label("bench");
        Program::new(track.layer(program))
    } else {
        Program::new(program)
    };
    measure(host, &program).await;
    // What was recorded can be read.
    if let Some(exporter) = exporter {
        let metrics = exporter.render();
        assert!(metrics.contains("gen_ai_workflow_duration_seconds_count"));
    }
}

/// Makes the predictions that stdin asks for.
pub(crate) async fn measure(host: &Host, program: &Program) {
    let clock = host.function("cpu", Some(CLOCK)).await.expect("a clock");
    let now = async || {
        let now = clock.call(json!({})).await.expect("a time");
        now.as_f64().expect("a number")
    };
    println!("ready");
    for line in io::stdin().lines() {
        let line = line.expect("a line");
        let (many, at_once) = line.split_once(' ').expect("two numbers");
        let [many, at_once] = [many, at_once].map(|n| n.parse().expect("a number"));
        let began = now().await;
        predictions(program, many, at_once).await;
        println!("{}", now().await - began);
    }
}

async fn predictions(program: &Program, many: usize, at_once: usize) {
    let calls = stream::iter(0..many).map(|n| {
        let question = format!("What is {n}?");
        program
            .clone()
            .oneshot(PredictRequest::new(json!({"question": question})))
    });
    let answers = calls.buffer_unordered(at_once);
    let well = answers.filter(|answer| std::future::ready(answer.is_ok()));
    assert_eq!(well.count().await, many, "predictions that failed");
}
