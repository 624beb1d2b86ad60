//! Many predictions, of which one in ten is given up, and then as many streams: how memory,
//! descriptors, threads and the objects of asyncio grow with them, which is to be not at all within
//! the noise of the readings. It fails, by its exit code, when work is left, or when a reading grows by
//! more than the bound that `samples.rs` states for it.
//!
//! Run: `cargo bench --bench soak`; a short one by `--predictions 20000`; in a worker process by
//! `--workers`; only the predictions or the streams by `--only predictions` or `--only streams`.

#[path = "../support/mod.rs"]
mod support;

mod samples;
mod slope;

use std::{io, path::Path, process::ExitCode, sync::Arc, time::Duration};

use futures_util::StreamExt;
use lexopt::{Arg, Parser, ValueExt};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::Semaphore,
    task::JoinSet,
    time::{interval, sleep},
};
use tower::ServiceExt;
use tower_dspy::{
    DspyService, Error, Host, Lm, PredictRequest, StreamEvent,
    testing::scripted_lm::{Reply, ScriptedLm},
};

use samples::Sampler;
use support::{LmProcess, until, venv, works_left};

/// Predictions at once.
const AT_ONCE: usize = 48;
/// One call of so many is given up.
const GIVEN_UP: usize = 11;
const SAMPLES: usize = 60;
/// The sample from which on nothing is to grow.
const FIRST_STEADY: usize = SAMPLES / 4 + 1;

struct Options {
    predictions: usize,
    workers: bool,
    only: Option<String>,
}

#[tokio::main]
async fn main() -> Result<ExitCode, lexopt::Error> {
    let mut options = Options {
        predictions: 200_000,
        workers: false,
        only: None,
    };
    let mut arguments = Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("predictions") => options.predictions = arguments.value()?.parse()?,
            Arg::Long("workers") => options.workers = true,
            Arg::Long("only") => options.only = Some(arguments.value()?.string()?),
            Arg::Long("lm-server") => {
                lm_server().await.expect("an LM server");
                return Ok(ExitCode::SUCCESS);
            }
            // Cargo's own.
            Arg::Long("bench") => {}
            _ => return Err(argument.unexpected()),
        }
    }
    let mut grown = 0;
    let mut soak = Soak::start(&options).await;
    for (name, streams) in [("predictions", false), ("streams", true)] {
        if options.only.as_deref().is_none_or(|only| only == name) {
            grown += soak
                .run(&format!("soak_{name}"), options.predictions, streams)
                .await;
        }
    }
    let left = works_left(&soak.host).await;
    support::count("soak_works_left", left);
    Ok(match grown + left {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

struct Soak {
    host: Host,
    lm: LmProcess,
    quick: DspyService,
    stuck: DspyService,
}

impl Soak {
    async fn start(options: &Options) -> Self {
        let lm = LmProcess::start(&["--lm-server"]).await.expect("an LM");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/soak");
        let host = if options.workers {
            Host::workers(1)
                .venv(venv().await)
                .python_path(folder)
                .start()
                .await
        } else {
            Host::embedded()
                .venv(venv().await)
                .python_path(folder)
                .start()
                .await
        };
        let host = host.expect("a host");
        let load = async |model: &str| {
            let lm = Lm::new(format!("openai/{model}")).base_url(&lm.base_url);
            let load = host.load("question -> answer").lm(lm.key("unused"));
            load.max_in_flight(2 * AT_ONCE).await.expect("a program")
        };
        let (quick, stuck) = (load("quick").await, load("stuck").await);
        Self {
            host,
            lm,
            quick,
            stuck,
        }
    }

    /// So many predictions, and one in ten more that is given up, with samples in between;
    /// returns how many readings grew by more than their bound.
    async fn run(&mut self, name: &str, predictions: usize, streams: bool) -> u64 {
        let sampler = Sampler::new(&self.host).await;
        let (mut samples, mut given_up) = (vec![], 0);
        for n in 1..=SAMPLES {
            given_up += self.step(predictions / SAMPLES, streams).await;
            assert!(until(|| self.host.stats().running == 0).await, "works left");
            let made = n * (predictions / SAMPLES);
            let sample = sampler.sample(made, &mut self.lm).await;
            samples.push(match n {
                FIRST_STEADY | SAMPLES => sample,
                _ => sample.without_types(),
            });
        }
        let grown = samples::print(name, &samples);
        support::count(&format!("{name}_given_up"), given_up);
        grown
    }

    async fn step(&self, predictions: usize, streams: bool) -> u64 {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        let (mut calls, mut given_up) = (JoinSet::new(), 0);
        for n in 0..predictions * GIVEN_UP / (GIVEN_UP - 1) {
            let permit = permits.clone().acquire_owned().await.expect("an open one");
            let stuck = n.is_multiple_of(GIVEN_UP);
            let program = if stuck { &self.stuck } else { &self.quick }.clone();
            given_up += u64::from(stuck);
            calls.spawn(async move {
                let _permit = permit;
                let call = call(program, n, streams);
                if !stuck {
                    return call.await.expect("an answer");
                }
                // At any moment of its life.
                let life = Duration::from_millis(fastrand::u64(1..30));
                tokio::select! {
                    _ = call => panic!("an answer of an LM that is stuck"),
                    () = sleep(life) => {}
                }
            });
            while let Some(ended) = calls.try_join_next() {
                ended.expect("a call");
            }
        }
        while let Some(ended) = calls.join_next().await {
            ended.expect("a call");
        }
        given_up
    }
}

async fn call(program: DspyService, n: usize, streams: bool) -> Result<(), Error> {
    let request = PredictRequest::new(json!({"question": format!("What is {n}?")}));
    if !streams {
        return program.oneshot(request).await.map(drop);
    }
    let mut stream = program.streaming().oneshot(request).await?;
    while let Some(event) = stream.next().await {
        if matches!(event?, StreamEvent::Done(_)) {
            return Ok(());
        }
    }
    panic!("a stream without an end");
}

/// The LM's own process: it answers at once or never, and remembers nothing.
async fn lm_server() -> io::Result<()> {
    let lm = ScriptedLm::start().await?;
    lm.script("stuck", Reply::hang());
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let mut ticks = interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            order = orders.next_line() => {
                if order?.is_none() {
                    return Ok(());
                }
                println!("{}", json!({"base_url": lm.base_url(), "connections": lm.connections()}));
            }
            _ = ticks.tick() => {
                lm.forget("quick");
                lm.forget("stuck");
            }
        }
    }
}
