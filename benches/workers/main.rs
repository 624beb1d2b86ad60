//! Programs in worker processes: what they gain where Python's own work is what takes the time,
//! what they cost a prediction, how soon a worker that hangs is replaced, and whether a call can
//! be lost without a word.
//!
//! Predictions are of `question -> answer`, and the LM's answer is canned, in this process: what
//! is left is the work of DSPy, of the bridge and of the frames. The embedded host and the
//! workers take turns.
//!
//! Run: `cargo bench --bench workers`

#[path = "../support/mod.rs"]
mod support;

mod hangs;
mod kills;
mod rates;

use std::{convert::Infallible, fs, path::Path, time::Duration};

use bytes::Bytes;
use http::{Response, header::CONTENT_TYPE};
use http_body_util::Full;
use serde_json::json;
use support::{count, figure, venv};
use tower_dspy::{DspyService, Host, Lm, PredictRequest, Workers, lm::LmRequest};

#[tokio::main]
async fn main() {
    let began = load_average();
    let rates = rates::measure().await;
    let hangs = hangs::measure().await;
    let kills = kills::measure().await;

    println!(
        "load average {began} at the start, {} at the end",
        load_average()
    );
    rates.print();
    hangs.print();
    kills.print();
    figure("workers2_vs_inprocess", rates.gain(), "x");
    figure("worker_overhead_p50", rates.overhead_us(), "us");
    figure("hang_to_replaced_p99", hangs.p99_ms(), "ms");
    count("calls_lost_silently", kills.silent());
}

/// What else the machine has to do: the figures are read with it.
fn load_average() -> String {
    fs::read_to_string("/proc/loadavg").map_or_else(|_| "unknown".into(), |line| line.trim().into())
}

async fn workers(n: usize) -> Workers {
    Host::workers(n)
        .venv(venv().await)
        .python_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/workers"))
}

/// An LM that answers at once, with no server.
fn canned() -> Lm {
    let answer = json!({
        "id": "1", "object": "chat.completion", "model": "canned",
        "choices": [{
            "index": 0, "finish_reason": "stop", "message": {
                "role": "assistant",
                "content": "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]",
            },
        }],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    });
    let body = Bytes::from(answer.to_string());
    let service = tower::service_fn(move |_: LmRequest| {
        let response = Response::builder().header(CONTENT_TYPE, "application/json");
        let response = response.body(Full::new(body.clone())).expect("a response");
        async { Ok::<_, Infallible>(response) }
    });
    Lm::new("openai/canned").key("unused").http(service)
}

async fn question(host: &Host) -> DspyService {
    let load = host.load("question -> answer").lm(canned());
    load.max_in_flight(1024).await.expect("a program")
}

fn ask(n: usize) -> PredictRequest {
    PredictRequest::new(json!({"question": format!("What is {n}?")}))
}

/// Longer than anything here takes that works.
const LIMIT: Duration = Duration::from_secs(30);
