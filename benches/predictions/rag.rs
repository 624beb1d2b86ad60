//! The program of `examples/rag`: three LM calls, an embedding and a search, ours against litellm.

#[path = "../../examples/rag/packages.rs"]
mod packages;

use std::{
    env,
    path::{Path, PathBuf},
};

use serde_json::json;
use tower_dspy::{Host, Lm, host::env::PythonEnv};

use super::{
    AT_ONCE, ROUNDS, SCRIPT,
    ours::{self, Program},
    side::Side,
    support::{figure, median, venv},
};

/// Predictions a round: each takes the time of some others.
const PREDICTIONS: usize = 100;

/// numpy, the program, and the package that it imports.
async fn python_path() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let env = PythonEnv::create(venv().await);
    let env = env.run().await.expect("the venv");
    let numpy = packages::numpy(&env).await.expect("numpy");
    vec![numpy, root.join("examples/rag"), root.join("src/python")]
}

/// Our side.
pub(crate) async fn run() {
    let url = env::var("TOWER_DSPY_BENCH_URL").expect("the LM's URL");
    let mut embedded = Host::embedded().venv(venv().await);
    for folder in &python_path().await[..2] {
        embedded = embedded.python_path(folder);
    }
    let host = embedded.start().await.expect("a host");
    let passage = |n: usize| format!("Passage {n} is about question {} and its answer.", n % 16);
    let passages: Vec<_> = (0..256).map(passage).collect();
    let ingest = host.function("rag:ingest", None).await.expect("a function");
    let address = json!({"api_base": url, "api_key": "unused"});
    let ingested = ingest.call(json!({"passages": passages, "connection": address}));
    ingested.await.expect("vectors");
    let lm = Lm::new("openai/bench").base_url(url).key("unused");
    let load = host.load("rag:RagByIndex").lm(lm).max_in_flight(1024);
    let program = Program::new(load.await.expect("a program"));
    ours::measure(&host, &program).await;
}

/// Prints the figures.
pub(crate) async fn compare(url: &str, server: &mut Side) {
    let path = python_path().await;
    let mut ours = Side::ourselves("rag", url);
    let mut litellm = Side::script_with(&venv().await, SCRIPT, "rag", url, &path);
    for at_once in AT_ONCE {
        ours.cpu(PREDICTIONS, at_once);
        litellm.cpu(PREDICTIONS, at_once);
    }
    let mut worst = f64::INFINITY;
    for at_once in AT_ONCE {
        let (mut own, mut theirs) = (vec![], vec![]);
        for _ in 0..ROUNDS {
            own.push(ours.cpu(PREDICTIONS, at_once));
            theirs.push(litellm.cpu(PREDICTIONS, at_once));
            server.say("a round is over");
        }
        let ms = |seconds: &[f64]| 1e3 * median(seconds.to_vec()) / PREDICTIONS as f64;
        let pairs = theirs.iter().zip(&own);
        let ratio = median(pairs.map(|(their, our)| their / our).collect());
        figure(&format!("rag_cpu_c{at_once}_ours"), ms(&own), "ms");
        figure(&format!("rag_cpu_c{at_once}_litellm"), ms(&theirs), "ms");
        figure(&format!("rag_cpu_vs_litellm_c{at_once}"), ratio, "x");
        worst = worst.min(ratio);
    }
    println!(
        "median of {ROUNDS} rounds of {PREDICTIONS} predictions each, with three LM calls and an \
         embedding in each; the plain figure is the worse of the two"
    );
    figure("rag_cpu_vs_litellm", worst, "x");
}
