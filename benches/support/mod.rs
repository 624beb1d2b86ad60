//! What the benchmarks of the bridge share.

#![allow(dead_code, unused_imports, reason = "each benchmark uses a part of it")]

mod figures;
mod lm_process;
mod process;

use std::{path::PathBuf, time::Duration};

use hdrhistogram::Histogram;
use tokio::time::{Instant, sleep};
use tower_dspy::{Host, host::env::PythonEnv};

pub(crate) use self::{
    figures::{figure, median},
    lm_process::LmProcess,
    process::{ProcessReading, child_processes, read_process},
};

/// The venv of the workspace, made if there is none.
pub(crate) async fn venv() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let env = PythonEnv::create(root.join(".venv"))
        .progress(|line| eprintln!("{line}"))
        .run()
        .await
        .expect("a venv");
    env.prefix().to_path_buf()
}

/// The embedded host of the benchmark.
pub(crate) async fn host() -> Host {
    Host::embedded()
        .venv(venv().await)
        .start()
        .await
        .expect("a host")
}

/// Prints a number of things.
pub(crate) fn count(name: &str, value: u64) {
    println!("figure {name} {value} count");
}

/// Durations, of which percentiles are asked in milliseconds.
pub(crate) struct Durations(Histogram<u64>);

impl Durations {
    pub(crate) fn new() -> Self {
        Self(Histogram::new(3).expect("three digits"))
    }

    pub(crate) fn record(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).expect("less than centuries");
        self.0.record(nanos).expect("a histogram that grows");
    }

    pub(crate) fn ms(&self, percentile: f64) -> f64 {
        assert!(!self.0.is_empty(), "nothing was measured");
        self.0.value_at_percentile(percentile) as f64 / 1e6
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.len()
    }
}

/// Waits until `seen`, for 10 seconds at most; says whether it came to that.
///
/// It looks now and then, so that what is measured meanwhile is not disturbed.
pub(crate) async fn until(mut seen: impl FnMut() -> bool) -> bool {
    let limit = Instant::now() + Duration::from_secs(10);
    while !seen() {
        if Instant::now() > limit {
            return false;
        }
        sleep(Duration::from_millis(2)).await;
    }
    true
}

/// Calls whose work has not ended after a bounded wait.
pub(crate) async fn works_left(host: &Host) -> u64 {
    let left = || {
        let stats = host.stats();
        stats.running + stats.queued
    };
    until(|| left() == 0).await;
    left()
}
