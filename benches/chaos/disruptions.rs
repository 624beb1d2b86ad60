//! What happens to the hosts meanwhile: workers are killed, programs are replaced and loaded anew.

use std::{
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{process::Command, time::sleep};
use tower::ServiceExt;
use tower_dspy::PredictRequest;

use crate::site::{PROGRAMS, Site};

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Disruptions {
    pub(crate) kills: u64,
    pub(crate) replaced: u64,
    /// Replacements that failed though no worker was killed in the middle of them.
    pub(crate) not_replaced: u64,
    pub(crate) loaded: u64,
    pub(crate) not_loaded: u64,
}

/// Kills a worker now and then, but never the oldest, which is to show what a worker keeps.
pub(crate) async fn kill(site: &Site, mut random: fastrand::Rng, stop: &AtomicBool) -> u64 {
    let mut kills = 0;
    while wait(&mut random, 2..8, stop).await {
        let processes = site.host.worker_stats().map(|stats| stats.processes);
        let processes = processes.unwrap_or_default();
        let Some((_oldest, others)) = processes.split_first() else {
            continue;
        };
        if others.is_empty() {
            continue;
        }
        let victim = others[random.usize(..others.len())].pid;
        // It may be gone by now.
        let kill = Command::new("kill")
            .args(["-9", &victim.to_string()])
            .stderr(Stdio::null())
            .status();
        kills += u64::from(kill.await.is_ok_and(|status| status.success()));
    }
    kills
}

/// Replaces a program of workers now and then.
pub(crate) async fn replace(
    site: &Site,
    mut random: fastrand::Rng,
    stop: &AtomicBool,
) -> (u64, u64) {
    let (mut replaced, mut not) = (0, 0);
    while wait(&mut random, 8..16, stop).await {
        let program = random.usize(..PROGRAMS.len());
        match site.bare[program].replace(site.load(program)).await {
            Ok(()) => replaced += 1,
            Err(error) => {
                println!("{}: not replaced: {error}", PROGRAMS[program].0);
                not += u64::from(!error.to_string().contains("SIGKILL"));
            }
        }
    }
    (replaced, not)
}

/// Loads a program beside the others, asks it, and lets it go.
pub(crate) async fn load(site: &Site, mut random: fastrand::Rng, stop: &AtomicBool) -> (u64, u64) {
    let (mut loaded, mut not) = (0, 0);
    while wait(&mut random, 3..9, stop).await {
        let program = random.usize(..PROGRAMS.len());
        match site.load(program).await {
            Ok(program) => {
                let request = PredictRequest::new(serde_json::json!({"question": "?"}));
                let call = program.oneshot(request);
                // Whatever comes of it.
                let _ = tokio::time::timeout(Duration::from_secs(1), call).await;
                loaded += 1;
            }
            Err(error) => {
                println!("{}: not loaded: {error}", PROGRAMS[program].0);
                not += 1;
            }
        }
    }
    (loaded, not)
}

/// Waits for some tenths of a minute's seconds; whether to go on.
async fn wait(
    random: &mut fastrand::Rng,
    seconds: std::ops::Range<u64>,
    stop: &AtomicBool,
) -> bool {
    let wait = Duration::from_millis(random.u64(seconds.start * 1000..seconds.end * 1000));
    let mut waited = Duration::ZERO;
    while waited < wait && !stop.load(Ordering::Relaxed) {
        let step = Duration::from_millis(100);
        sleep(step).await;
        waited += step;
    }
    !stop.load(Ordering::Relaxed)
}
