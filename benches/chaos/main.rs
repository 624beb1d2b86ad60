//! Mixed load while everything fails that can: the LM hangs, resets, drips, answers garbage and
//! refuses; workers are killed; programs are replaced; callers leave, cancel, and have any limit.
//! Callers are in this process, over HTTP and over gRPC, of the embedded host and of two workers.
//! After it each call has its outcome in the books of callers, layers and hosts, and nothing is
//! left: no work, no permit, no task, no thread, no descriptor, no process, no memory.
//!
//! Run: `cargo bench --bench chaos -- --minutes 2`; an hour by `--minutes 60`; with the schedule of
//! another run by `--seed N`. `--inject leak` and `--inject lose` put a fault into the servers, which
//! the run has to find. It fails, by its exit code, when something is left or lost.

#[path = "../support/mod.rs"]
mod support;

mod books;
mod clients;
mod disruptions;
mod faults;
mod inject;
mod left;
mod lm_server;
mod log;
mod options;
mod outcomes;
mod processes;
mod run;
mod site;

use std::{process::ExitCode, time::Duration};

use options::Options;

/// How much longer than its faults a run may take: to start, to settle and to stop.
const MARGIN: Duration = Duration::from_secs(300);

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if let Some(seed) = options.lm_server {
        lm_server::run(seed).await.expect("an LM server");
        return ExitCode::SUCCESS;
    }
    log::start().expect("a log");
    println!("{:?} of chaos, --seed {}", options.length, options.seed);
    let limit = options.length + MARGIN;
    let Ok(books) = tokio::time::timeout(limit, run::run(&options)).await else {
        println!("the run has not ended after {limit:?}");
        // Whatever hangs must not hold up the end of this process.
        std::process::exit(1);
    };
    match books.close() {
        0 => ExitCode::SUCCESS,
        wrong => {
            println!("{wrong} figures are not as they have to be");
            ExitCode::FAILURE
        }
    }
}
