//! CPU time a prediction: through this crate, through DSPy alone at its default engine, through
//! DSPy with litellm, and through DSPy with a canned answer in place of HTTP, which is the floor.
//!
//! All four run `dspy.Predict("question -> answer")` on its async path, without cache and retries,
//! with DSPy's history and trace as they are by default, against the same LM, which answers at once
//! and is a process of its own, so that its CPU time is nobody's. Each way is a process of its own
//! too; they take turns. What is measured is the CPU time of the whole process, user and system, all
//! threads.
//!
//! `observed` is ours with metrics in a recorder for Prometheus, each call tracked, and samples of their
//! timelines kept.
//!
//! Last comes the program of `examples/rag`, ours against DSPy with litellm: three LM calls, an
//! embedding, which both have from litellm, and a search.
//!
//! Run: `cargo bench --bench predictions`, or `cargo bench --bench predictions -- rag` for that alone

#[path = "../support/mod.rs"]
mod support;

mod ours;
mod rag;
mod side;

use std::{env, io};

use support::{figure, host, median, venv};
use tower_dspy::testing::scripted_lm::ScriptedLm;

use self::side::Side;

const ROUNDS: usize = 7;
/// Predictions a round.
const PREDICTIONS: usize = 400;
/// Plain DSPy.
const SCRIPT: &str = "benches/predictions/sides.py";
/// Predictions at once.
const AT_ONCE: [usize; 2] = [1, 32];

/// The other ways, in the words of `sides.py`, and the figures of ours against them.
const OTHERS: [(&str, &str); 3] = [
    ("native", "cpu_vs_dspy_native"),
    ("litellm", "cpu_vs_litellm"),
    ("canned", "cpu_vs_canned_floor"),
];

#[tokio::main]
async fn main() {
    match env::var("TOWER_DSPY_BENCH_PART").as_deref() {
        Ok("server") => serve().await,
        Ok("ours") => ours::run(&host().await, false).await,
        Ok("observed") => ours::run(&host().await, true).await,
        Ok("rag") => rag::run().await,
        _ if env::args().any(|argument| argument == "rag") => {
            let mut server = Side::ourselves("server", "");
            let url = server.line();
            rag::compare(&url, &mut server).await;
        }
        _ => compare().await,
    }
}

/// The LM, until the bench is over.
async fn serve() {
    let server = ScriptedLm::start().await.expect("a server");
    println!("{}", server.base_url());
    let mut line = String::new();
    // Each line is a round that is over.
    while io::stdin().read_line(&mut line).is_ok_and(|read| read > 0) {
        server.forget("bench");
        server.forget("text-embedding-3-small");
        line.clear();
    }
}

async fn compare() {
    let venv = venv().await;
    let mut server = Side::ourselves("server", "");
    let url = server.line();
    let mut ours = Side::ourselves("ours", &url);
    let mut observed = Side::ourselves("observed", &url);
    let mut others = OTHERS.map(|(side, _)| Side::script(&venv, SCRIPT, side, &url));
    // Warm: imports, connections, caches of code.
    for at_once in AT_ONCE {
        ours.cpu(PREDICTIONS, at_once);
        observed.cpu(PREDICTIONS, at_once);
        for other in &mut others {
            other.cpu(PREDICTIONS, at_once);
        }
    }

    let mut worst = OTHERS.map(|_| f64::INFINITY);
    let mut dearest = 0.0;
    for at_once in AT_ONCE {
        let (mut own, mut seen) = (vec![], vec![]);
        let mut theirs = OTHERS.map(|_| vec![]);
        for _ in 0..ROUNDS {
            own.push(ours.cpu(PREDICTIONS, at_once));
            seen.push(observed.cpu(PREDICTIONS, at_once));
            for (other, theirs) in others.iter_mut().zip(&mut theirs) {
                theirs.push(other.cpu(PREDICTIONS, at_once));
            }
            server.say("a round is over");
        }
        let ms = |seconds: &[f64]| 1e3 * median(seconds.to_vec()) / PREDICTIONS as f64;
        figure(&format!("cpu_c{at_once}_ours"), ms(&own), "ms");
        figure(&format!("cpu_c{at_once}_observed"), ms(&seen), "ms");
        let pairs = seen.iter().zip(&own);
        let ratio = median(pairs.map(|(seen, own)| seen / own).collect());
        figure(&format!("cpu_observed_vs_plain_c{at_once}"), ratio, "x");
        dearest = f64::max(dearest, ratio);
        for (n, (side, name)) in OTHERS.into_iter().enumerate() {
            let pairs = theirs[n].iter().zip(&own);
            let ratio = median(pairs.map(|(their, our)| their / our).collect());
            figure(&format!("cpu_c{at_once}_{side}"), ms(&theirs[n]), "ms");
            figure(&format!("{name}_c{at_once}"), ratio, "x");
            worst[n] = f64::min(worst[n], ratio);
        }
    }
    println!(
        "median of {ROUNDS} rounds of {PREDICTIONS} predictions each; the plain figures are the \
         worse of those with 1 and with 32 predictions at once"
    );
    for ((_, name), worst) in OTHERS.into_iter().zip(worst) {
        figure(name, worst, "x");
    }
    figure("cpu_observed_vs_plain", dearest, "x");
    drop((ours, observed, others));
    rag::compare(&url, &mut server).await;
}
