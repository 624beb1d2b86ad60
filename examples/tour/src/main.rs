//! Thirteen short scenes: what tower-dspy does to real DSPy programs.
//!
//! Run: `cargo run --release`
//!
//! It makes a venv with DSPy if there is none, starts Python inside this process and a scripted LM
//! on loopback, and plays the scenes one after the other. Each looks at what really happened, on
//! Python's side and on the LM's. The timelines of all calls, those without this crate beside ours, go
//! into one HTML file, whose path it prints. `cargo run --release -- --help` tells the rest.

mod act;
mod args;
mod calls;
mod doctor;
mod naive;
mod picture;
mod progress;
mod report;
mod scenes;
mod stage;
mod table;
mod unparsed;

use std::{
    io::{IsTerminal, stderr},
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tower_dspy::{Host, host::env::PythonEnv};
use tracing_subscriber::EnvFilter;

use crate::{
    act::{Act, Verdict},
    args::{Args, Command, RealLm, USAGE},
    progress::Step,
    report::{default_path, prepare},
    scenes::{
        batch, cancel, combined, deadline, fallback, grace, hang, retry, session, stale, stream,
        timeout, workers,
    },
    stage::{Stage, Trouble, start_host, venv_path},
};

/// Failures of programs are part of the play, so only what goes wrong with the host is shown.
const LOG: &str = "warn,tower_dspy=error";

/// The usual exit status of a process that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    let args = match Args::parse(lexopt::Parser::from_env()).and_then(|args| log().map(|()| args)) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let host = OnceLock::new();
    let started = |started: &Host| {
        let _ = host.set(started.clone());
    };
    let outcome = tokio::select! {
        outcome = run(args, started) => outcome,
        _ = tokio::signal::ctrl_c() => {
            eprintln!("\ninterrupted");
            Ok(ExitCode::from(INTERRUPTED))
        }
    };
    if let Some(host) = host.get() {
        host.stop(Duration::from_secs(1)).await;
    }
    outcome.unwrap_or_else(|trouble| {
        eprintln!("{trouble}");
        ExitCode::FAILURE
    })
}

async fn run(args: Args, started: impl FnOnce(&Host)) -> Result<ExitCode, Trouble> {
    let well = match args.command {
        Command::Help => {
            println!("{USAGE}");
            true
        }
        Command::Doctor => doctor::run(args.lm, started).await,
        Command::Picture(folder) => {
            let stage = set_up(None, args.limit, started).await?;
            picture::make(&stage, &folder).await?;
            true
        }
        Command::Tour => {
            let report = args.report.unwrap_or_else(default_path);
            tour(args.lm, args.limit, &report, started).await?
        }
    };
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn tour(
    lm: Option<RealLm>,
    limit: Option<Duration>,
    report: &Path,
    started: impl FnOnce(&Host),
) -> Result<bool, Trouble> {
    prepare(report)?;
    let stage = &set_up(lm, limit, started).await?;

    let verdicts = [
        Act::play(stage, 1, "A simple timeout", timeout::play).await,
        Act::play(stage, 2, "Cancellation with a token", cancel::play).await,
        Act::play(
            stage,
            3,
            "A deadline over several operations",
            deadline::play,
        )
        .await,
        Act::play(stage, 4, "A session around request limits", session::play).await,
        Act::play(stage, 5, "Retry when an attempt elapses", retry::play).await,
        Act::play(stage, 6, "Graceful cancellation", grace::play).await,
        Act::play(stage, 7, "Recovery by fallback", fallback::play).await,
        Act::play(stage, 8, "The last good answer, with its age", stale::play).await,
        Act::play(stage, 9, "A batch under one deadline", batch::play).await,
        Act::play(stage, 10, "All patterns combined", combined::play).await,
        Act::play(stage, 11, "An LM that hangs", hang::play).await,
        Act::play(stage, 12, "What only a process can stop", workers::play).await,
        Act::play(stage, 13, "A stream whose reader leaves", stream::play).await,
    ];
    let compared = table::print(stage).await?;
    stage.report.write(report)?;
    println!("The timelines of all calls: {}\n", report.display());

    let of = |verdict| verdicts.iter().filter(|of| **of == verdict).count();
    let (ok, not_shown, wrong) = (
        of(Verdict::Ok) + of(Verdict::OkWithoutLm),
        of(Verdict::NotShown),
        of(Verdict::Wrong),
    );
    if not_shown > 0 {
        println!(
            "{not_shown} of the scenes could not be shown, for what the model answered: a larger model \
             may do better\n"
        );
    }
    if wrong > 0 {
        println!("{wrong} of the scenes went wrong\n");
    }
    if !compared {
        println!("the comparison went wrong: requests of ours went on\n");
    }
    println!("figure tour_scenes_ok {ok} count");
    match stage.scripted() {
        Some(_) => println!("figure tour_orphaned_lm_requests {} count", stage.orphans()),
        None => {
            println!("figure tour_scenes_not_shown {not_shown} count");
            println!("(what the LM saw was not checked, so there is no figure for it)");
        }
    }
    Ok(wrong == 0 && compared)
}

/// Starts Python and the LM.
async fn set_up(
    lm: Option<RealLm>,
    limit: Option<Duration>,
    started: impl FnOnce(&Host),
) -> Result<Stage, Trouble> {
    let env = make_venv().await?;
    let step = Step::begin("starting Python and importing DSPy");
    let host = start_host(&env).await?;
    started(&host);
    let stage = Stage::new(host, lm, limit).await?;
    step.done();
    println!("DSPy {} and {}\n", env.dspy_version(), stage.lm_name());
    Ok(stage)
}

/// Makes the venv if there is none that fits: seconds with uv, a minute or two with pip.
async fn make_venv() -> Result<PythonEnv, Trouble> {
    let step = Arc::new(Mutex::new(None));
    let making = step.clone();
    let create = PythonEnv::create(venv_path()).progress(move |line| {
        let mut step = making.lock().unwrap_or_else(PoisonError::into_inner);
        step.get_or_insert_with(|| Step::begin("making a venv and installing DSPy into it"))
            .detail(line);
    });
    let env = create.run().await?;
    if let Some(step) = step.lock().unwrap_or_else(PoisonError::into_inner).take() {
        step.done();
    }
    Ok(env)
}

fn log() -> Result<(), lexopt::Error> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) => EnvFilter::try_new(filter).map_err(|error| format!("RUST_LOG: {error}"))?,
        Err(_) => EnvFilter::new(LOG),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(stderr().is_terminal())
        .with_writer(stderr)
        .init();
    Ok(())
}
