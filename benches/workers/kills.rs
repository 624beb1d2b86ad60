//! Workers killed at random under load: each call has an outcome, and it is the right one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt;
use tower_dspy::{DspyService, Error, Host};

use crate::{
    LIMIT, ask, question,
    support::{count, figure, until},
    workers,
};

const KILLS: u64 = 500;
const WORKERS: usize = 2;
const CLIENTS: usize = 32;

pub(crate) struct Kills {
    made: Made,
    took: Duration,
    /// What the pool says that it answered with `Lost`.
    told_lost: u64,
}

/// What callers saw.
#[derive(Default)]
struct Made {
    answered: u64,
    lost: u64,
    /// No outcome, or one that is not what came of the call.
    silent: u64,
}

pub(crate) async fn measure() -> Kills {
    let host = workers(WORKERS).await.start().await.expect("workers");
    let qa = question(&host).await;
    let stopping = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| tokio::spawn(drive(qa.clone(), client, stopping.clone())))
        .collect();
    for _ in 0..KILLS {
        // Under load, so somebody has to be at work; and at any moment of the other's life: as it
        // starts, loads, works and dies of another kill.
        let works = || host.worker_stats().is_some_and(|stats| stats.ready() > 0);
        assert!(until(works).await, "a pool that does not recover");
        sleep(Duration::from_micros(fastrand::u64(0..60_000))).await;
        kill_one(&host).await;
    }
    stopping.store(true, Ordering::Relaxed);
    let mut made = Made::default();
    for client in clients {
        let its = client.await.expect("a client");
        made.answered += its.answered;
        made.lost += its.lost;
        made.silent += its.silent;
    }
    let took = began.elapsed();
    let stats = host.worker_stats().expect("workers");
    let left = host.stop(Duration::from_secs(5)).await;
    // What is still counted belongs to calls whose end nobody told.
    made.silent += left.running + left.queued + left.orphans;
    assert!(stats.lost >= KILLS / 2, "only {} kills hit", stats.lost);
    Kills {
        made,
        took,
        told_lost: stats.calls_lost,
    }
}

async fn kill_one(host: &Host) {
    let processes = host.worker_stats().expect("workers").processes;
    if processes.is_empty() {
        return;
    }
    let victim = processes[fastrand::usize(..processes.len())].pid;
    // It may be gone by now.
    let kill = tokio::process::Command::new("kill")
        .args(["-9", &victim.to_string()])
        .stderr(std::process::Stdio::null())
        .status();
    kill.await.expect("a kill");
}

async fn drive(qa: DspyService, client: usize, stopping: Arc<AtomicBool>) -> Made {
    let mut made = Made::default();
    while !stopping.load(Ordering::Relaxed) {
        match timeout(LIMIT, qa.clone().oneshot(ask(client))).await {
            Ok(Ok(answer)) if answer.outputs["answer"] == "Paris" => made.answered += 1,
            Ok(Err(Error::Lost(_))) => made.lost += 1,
            Ok(wrong) => {
                println!("a wrong outcome: {wrong:?}");
                made.silent += 1;
            }
            Err(_) => {
                println!("no outcome in {LIMIT:?}");
                made.silent += 1;
            }
        }
    }
    made
}

impl Kills {
    pub(crate) fn silent(&self) -> u64 {
        // A loss that only one of the two sides knows of is silent as well.
        self.made.silent + self.made.lost.abs_diff(self.told_lost)
    }

    pub(crate) fn print(&self) {
        println!("{KILLS} times SIGKILL to one of {WORKERS} workers, with {CLIENTS} clients");
        count("kills_calls_answered", self.made.answered);
        count("kills_calls_lost", self.made.lost);
        figure("kills_took", self.took.as_secs_f64(), "s");
    }
}
