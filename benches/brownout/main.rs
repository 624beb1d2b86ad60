//! A brown-out, simulated: 50 000 callers and 200 nodes, three hops from a caller to the LM, and an LM
//! that has a tenth of its capacity for a minute.
//!
//! The layers, their budgets, the headers that carry the deadlines and tokio's scheduler are the real
//! ones; only the clock is tokio's paused one, the network is a wait, and the LM is a queue. One run is
//! one thread and one seed, so it prints the same each time.
//!
//! *Goodput* is answers that reach their caller within 30 s of its call. The *amplification* is the LM calls of the
//! minute over the calls that callers made in it. The *recovery* is the time from the end of the minute
//! from which on, of the calls made in each 5 s, 95 % are answered in time.
//!
//! Both are of the standard stack with retries in the hop that calls the LM alone, as the docs of
//! `RetryLayer` ask, and of the naive stack in the same way (`_naive_last_hop`); and of both with retries
//! in each of the three hops (`_each_hop`, `_naive`).
//!
//! Run: `cargo bench --bench brownout`, or with `-- --seed 7 --only standard`

#[path = "../support/figures.rs"]
#[allow(dead_code, reason = "a benchmark uses a part of it")]
mod figures;

mod hops;
mod ledger;
mod lm;
mod variants;
mod world;

use std::process::ExitCode;

use lexopt::prelude::*;

use self::{figures::figure, ledger::Summary, lm::MANNERS, variants::VARIANTS};

/// The limits of the standard stack with retries in the hop that calls the LM alone.
const MOST_AMPLIFICATION: f64 = 1.2;
const MOST_RECOVERY: f64 = 10.0; // seconds

struct Options {
    seed: u64,
    only: Option<String>,
}

fn options() -> Result<Options, lexopt::Error> {
    let mut options = Options {
        seed: 1,
        only: None,
    };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("seed") => options.seed = arguments.value()?.parse()?,
            Long("only") => options.only = Some(arguments.value()?.string()?),
            // What cargo passes to each benchmark.
            Long("bench") => {}
            other => return Err(other.unexpected()),
        }
    }
    Ok(options)
}

fn main() -> Result<ExitCode, lexopt::Error> {
    let options = options()?;
    println!("seed {}", options.seed);
    println!("{}", world::DESCRIPTION);
    let mut figures = Vec::new();
    for manner in MANNERS {
        println!();
        println!("{}", manner.description());
        println!("{}", Summary::HEAD);
        for variant in VARIANTS {
            if options
                .only
                .as_deref()
                .is_some_and(|only| only != variant.name)
            {
                continue;
            }
            let summary = world::run(options.seed, manner, variant);
            println!("{}", summary.row(variant.name));
            figures.push((variant.name, summary));
        }
    }
    println!();
    for variant in VARIANTS {
        println!("{:<22} {}", variant.name, variant.what);
    }
    println!();
    let mut is_within = true;
    for (name, suffix) in variants::FIGURES {
        let of_both: Vec<_> = figures.iter().filter(|(of, _)| *of == name).collect();
        if of_both.is_empty() {
            continue;
        }
        // The worse of the two LMs.
        let of_both = |value: fn(&Summary) -> f64| of_both.iter().map(move |(_, one)| value(one));
        let most = |value| of_both(value).fold(f64::NAN, f64::max);
        let least = |value| of_both(value).fold(f64::NAN, f64::min);
        let amplification = most(|summary| summary.amplification);
        let recovery = most(|summary| summary.recovery);
        let goodput = least(|summary| summary.goodput);
        figure(
            &format!("brownout_amplification{suffix}"),
            amplification,
            "x",
        );
        figure(&format!("brownout_recovery{suffix}"), recovery, "s");
        figure(&format!("brownout_goodput{suffix}"), goodput, "%");
        if of_both(|summary| f64::from(summary.never_recovers)).any(|never| never > 0.0) {
            println!("({name}: not recovered when the simulation ended)");
        }
        if suffix.is_empty() {
            is_within = amplification <= MOST_AMPLIFICATION && recovery <= MOST_RECOVERY;
        }
    }
    if is_within {
        return Ok(ExitCode::SUCCESS);
    }
    println!("beyond the limits of {MOST_AMPLIFICATION} x and {MOST_RECOVERY} s");
    Ok(ExitCode::FAILURE)
}
