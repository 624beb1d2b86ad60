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
mod lm_server;
mod options;
mod outcomes;
mod run;
mod site;

use std::process::ExitCode;

use options::Options;

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
    println!("{:?} of chaos, --seed {}", options.length, options.seed);
    let books = run::run(&options).await;
    match books.close() {
        0 => ExitCode::SUCCESS,
        wrong => {
            println!("{wrong} figures are not as they have to be");
            ExitCode::FAILURE
        }
    }
}
