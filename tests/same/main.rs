//! Programs under the host against plain DSPy: the same requests, the same answers, the same
//! errors.
//!
//! `corpus` holds the programs, written as for plain DSPy, and beside each file of them its rows: a
//! program, its inputs and the LM's replies. Each row runs in a plain interpreter, which
//! `plain.py` is, and under the host: on the embedded loop, on a thread where the program has a
//! sync form, and in a worker process. A server records the requests of each side.
//!
//! Run: `cargo test --test same -- --nocapture`. `SAME_ROWS=agents,retry-after` runs the rows whose
//! family or name contains one of these; `SAME_PLAIN=1` runs the plain side alone and prints what it
//! did.

mod harness;

use std::env;

#[tokio::test(flavor = "multi_thread")]
async fn programs_behave_under_the_host_as_in_plain_dspy() {
    let only = env::var("SAME_ROWS").unwrap_or_default();
    if env::var_os("SAME_PLAIN").is_some() {
        return harness::print_plain(&only).await;
    }
    let report = harness::run(&only).await;
    println!("{report}");
    let failures = report.failures();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
