//! What a stream costs, and how soon its parts come: through this crate, and through plain DSPy's
//! `streamify` and DSPy's engine alone, on the same LM server.
//!
//! The LM server, this crate and plain DSPy are processes of their own; what is compared takes turns.
//! Each token of the LM is the time at which the server sent it, so that the reader knows how long it
//! was under way.
//!
//! Run: `cargo bench --bench streaming`

#[path = "../support/mod.rs"]
mod support;

#[path = "../predictions/side.rs"]
mod side;

mod corpus;
mod lm;
mod ours;

use std::env;

use support::{figure, host, median, venv};

use self::side::Side;

const ROUNDS: usize = 7;
/// Streams a round, one after the other, and the tokens of each.
const STREAMS: usize = 2;
const TOKENS: usize = 3_000;
/// As many with 2 ms between two tokens: each is on its way alone, and wakes its reader.
const PACED: usize = 500;
/// Streams a round whose first content is timed.
const FIRSTS: usize = 60;

#[tokio::main]
async fn main() {
    match env::var("TOWER_DSPY_BENCH_PART").as_deref() {
        Ok("server") => lm::serve().await,
        Ok("ours") => ours::run(&host().await).await,
        _ => compare().await,
    }
}

async fn compare() {
    let venv = venv().await;
    let script = "benches/streaming/sides.py";
    let mut server = Side::ourselves("server", "");
    let url = server.line();
    let mut ours = Side::ourselves("ours", &url);
    let mut streamify = Side::script(&venv, script, "streamify", &url);
    let mut engine = Side::script(&venv, script, "engine", &url);

    let cpu = format!("cpu {STREAMS} {TOKENS}");
    let paced = format!("paced {STREAMS} {PACED}");
    let first = format!("first {FIRSTS} 1");
    for side in [&mut ours, &mut streamify, &mut engine] {
        side.ask(&cpu); // warm: imports, connections, caches of code
        side.ask(&first);
    }
    let chunks = (STREAMS * TOKENS) as f64;
    let [mut own, mut theirs, mut alone, mut firsts, mut added] = [const { vec![] }; 5];
    let (mut own_paced, mut theirs_paced) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        own.push(ours.ask(&cpu) / chunks);
        theirs.push(streamify.ask(&cpu) / chunks);
        alone.push(engine.ask(&cpu) / chunks);
        own_paced.push(ours.ask(&paced) / (STREAMS * PACED) as f64);
        theirs_paced.push(streamify.ask(&paced) / (STREAMS * PACED) as f64);
        let ours = ours.ask(&first);
        firsts.push(ours);
        added.push(ours - engine.ask(&first));
    }
    println!(
        "medians of {ROUNDS} rounds of {STREAMS} streams of {TOKENS} tokens each, as fast as the reader \
         takes them, and of {PACED} with a pause of 2 ms after each"
    );
    let us = |seconds: &[f64]| 1e6 * median(seconds.to_vec());
    figure("stream_cpu_per_chunk_ours", us(&own), "us");
    figure("stream_cpu_per_chunk_streamify", us(&theirs), "us");
    figure("stream_cpu_per_chunk_engine_alone", us(&alone), "us");
    figure("stream_cpu_per_paced_chunk_ours", us(&own_paced), "us");
    figure(
        "stream_cpu_per_paced_chunk_streamify",
        us(&theirs_paced),
        "us",
    );
    let ratio = |theirs: &[f64], own: &[f64]| {
        median(
            theirs
                .iter()
                .zip(own)
                .map(|(their, our)| their / our)
                .collect(),
        )
    };
    figure(
        "stream_cpu_per_paced_chunk_vs_streamify",
        ratio(&theirs_paced, &own_paced),
        "x",
    );
    figure(
        "stream_cpu_per_chunk_vs_streamify",
        ratio(&theirs, &own),
        "x",
    );
    figure("stream_first_content_p50", 1e3 * median(firsts), "ms");
    figure("stream_first_content_added_p50", 1e3 * median(added), "ms");
    drop((streamify, engine));

    figure(
        "stream_drop_to_disconnect_p99",
        1e3 * ours.ask("drop 400 1"),
        "ms",
    );
    let beside = ours.ask("fast 64 40");
    let lag = ours.ask("slow 64 40");
    figure(
        "stream_reader_lag_p99_without_a_slow_one",
        1e3 * beside,
        "ms",
    );
    figure("stream_slow_reader_lag_p99", 1e3 * lag, "ms");
    ours.ask("memory 300 1");
    figure("stream_memory_growth", ours.ask("memory 1000 1"), "MB");
    figure("stream_text_replaced", ours.ask("replaced 0 0"), "fields");
    figure("stream_text_lost", ours.ask("lost 0 0"), "characters");
}
