//! How many programs do under the host what they do in plain DSPy: the rows of `tests/same`.
//!
//! Run: `cargo bench --bench same`

#[path = "../support/figures.rs"]
#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod figures;
#[path = "../../tests/same/harness/mod.rs"]
#[allow(dead_code, reason = "the test uses the rest")]
mod harness;

#[tokio::main]
async fn main() {
    let report = harness::run("").await;
    println!("{report}");
    let figure = |name, value: usize, unit| figures::figure(name, value as f64, unit);
    figure("same_requests_differ", report.requests_differ(), "rows");
    figure("same_outcomes_differ", report.outcomes_differ(), "rows");
    figure("same_rows", report.rows(), "rows");
    figure("same_past_host", report.past_host(), "calls");
}
