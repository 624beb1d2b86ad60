//! The log of the hosts, in a file, of which the kills of workers are printed with their programs.

use std::{
    fs::{self, File},
    io,
    path::PathBuf,
    sync::Mutex,
};

use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// Lines before a kill that are printed: those that name what blocks a loop.
const BEFORE: usize = 4;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("chaos.log")
}

/// Begins a new log.
pub(crate) fn start() -> io::Result<()> {
    let file = Mutex::new(File::create(path())?);
    let lines = fmt::layer().with_ansi(false).with_writer(file);
    let warnings = Targets::new()
        .with_target("tower_dspy", LevelFilter::WARN)
        .with_target("tower_dspy::python", LevelFilter::OFF);
    tracing_subscriber::registry()
        .with(lines.with_filter(warnings))
        .init();
    Ok(())
}

/// Prints each kill of a worker, and the programs that blocked a loop before it.
pub(crate) fn print_kills() {
    let log = fs::read_to_string(path()).unwrap_or_default();
    let mut blocking = vec![];
    for line in log.lines() {
        if line.contains("blocks the loop") {
            blocking.push(line);
        } else if line.contains("a worker is lost") && line.contains("it was killed") {
            let before = &blocking[blocking.len().saturating_sub(BEFORE)..];
            for line in before.iter().chain([&line]) {
                println!("{line:.400}");
            }
        }
    }
}
