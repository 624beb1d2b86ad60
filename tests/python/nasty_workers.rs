//! The corpus of nasty.rs in worker processes: each caller has its answer in time, those of others
//! are right, the pool comes back to full strength, and nothing is left.

use std::{fs, time::Duration};

use tokio::{sync::watch, task::JoinHandle};
use tower::ServiceExt;
use tower_dspy::{DspyService, Error, Health, Host, WorkerStats};

use crate::{
    nasty::{
        APART,
        InWorker::{self, Keep, Kill, Lose},
        Must, PROGRAMS, Run,
    },
    support::{HOUR, ask, eventually, load, own_process, question},
    workers::{stop, workers},
};

const WORKERS: usize = 2;
/// Over sooner than any of what is to be killed, and not before it has said that it was told to stop.
const GRACE: Duration = Duration::from_secs(3);

async fn start(grace: Duration) -> Host {
    let workers = workers(WORKERS).await.kill_after(grace).retire_after(grace);
    workers.start().await.expect("workers")
}

fn stats(host: &Host) -> WorkerStats {
    host.worker_stats().expect("workers")
}

/// Calls by others, one after the other for as long as a nasty program is there.
struct Others {
    enough: watch::Sender<bool>,
    /// How many were answered, and lost with their worker.
    asking: JoinHandle<(u64, u64)>,
}

impl Others {
    fn new(qa: &DspyService) -> Self {
        let (enough, over) = watch::channel(false);
        let qa = qa.clone();
        let asking = tokio::spawn(async move {
            let (mut answered, mut lost) = (0, 0);
            while !*over.borrow() || answered == 0 {
                let text = format!("number {answered}");
                match qa.clone().oneshot(ask(&text)).await {
                    Ok(answer) => {
                        assert_eq!(answer.outputs["answer"], format!("You said: {text}"));
                        answered += 1;
                    }
                    Err(Error::Lost(_)) => lost += 1,
                    Err(other) => panic!("{other}"),
                }
            }
            (answered, lost)
        });
        Self { enough, asking }
    }

    async fn end(self) -> (u64, u64) {
        self.enough.send_replace(true);
        self.asking.await.expect("right answers")
    }
}

async fn check(host: &Host, qa: &DspyService, name: &str, must: Must, in_worker: InWorker) {
    if let Must::NotBe = must {
        return;
    }
    let before = stats(host);
    let others = Others::new(qa);
    let program = load(host, name, "nasty").await;
    let mut run = Run::new(&program, must).await;
    let loses = match in_worker {
        Keep => {
            run.holds(name, must).await;
            (0, 0)
        }
        Kill => {
            run.holds(name, must).await;
            (1, 1)
        }
        Lose(how) => match &run.answer {
            Err(Error::Lost(lost)) if lost.reason().contains(how) => (1, 0),
            other => panic!("{name} must be lost by {how}: {other:?}"),
        },
    };
    // What is killed is not released by the test first.
    eventually(name, || program.in_flight() == 0).await;
    drop(run);
    let after = || {
        let now = stats(host);
        let full = now.ready() == WORKERS && now.processes.len() == WORKERS;
        full && (now.lost - before.lost, now.killed - before.killed) == loses
    };
    eventually(name, after).await;
    eventually(name, || host.health() == Health::Ready).await;
    eventually(name, || host.stats().orphans == 0).await;
    let (answered, lost) = others.end().await;
    assert!(answered > 0, "{name}");
    assert!(lost == 0 || loses.0 > 0, "{name}: {lost} lost");
    let gone = before
        .processes
        .iter()
        .map(|process| process.pid)
        .filter(|pid| stats(host).processes.iter().all(|is| is.pid != *pid));
    for pid in gone {
        eventually(name, || !is_group(pid)).await;
    }
}

/// Whether any process of the group of a worker is there, but for what init has yet to reap.
fn is_group(leader: u32) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut stats =
        processes.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats.any(|stat| {
        // After the name: the state, the parent, the group.
        let rest = stat.rsplit(") ").next().unwrap_or_default();
        let mut rest = rest.split(' ');
        rest.next() != Some("Z") && rest.nth(1) == Some(&leader.to_string())
    })
}

/// The pipes, sockets to workers and handles of processes that this process has open.
fn descriptors() -> usize {
    let unix = fs::read_to_string("/proc/net/unix").unwrap();
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let names = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    let ours = names.filter(|name| {
        let name = name.to_string_lossy();
        let inode = name
            .strip_prefix("socket:[")
            .map(|rest| rest.trim_end_matches(']'));
        name.starts_with("pipe:")
            || name.contains("pidfd")
            || inode.is_some_and(|inode| {
                unix.contains(&format!(" {inode} ")) || unix.contains(&format!(" {inode}\n"))
            })
    });
    ours.count()
}

/// Those for which `picked` holds, in both ways, and then a look at what is left.
async fn check_all(grace: Duration, picked: impl Fn(InWorker) -> bool) {
    let host = start(grace).await;
    let qa = question(&host, "nasty").await;
    qa.clone().oneshot(ask("?")).await.unwrap();
    let open = descriptors();
    let rows = PROGRAMS.iter().chain(APART);
    for &(name, on_loop, on_thread, in_worker) in rows.filter(|row| picked(row.3)) {
        for (way, must) in [("Async", on_loop), ("Sync", on_thread)] {
            check(&host, &qa, &format!("nasty:{way}.{name}"), must, in_worker).await;
        }
    }
    eventually("no descriptor to be left", || descriptors() == open).await;
    stop(host).await;
    eventually("no process to be left", || children() == 0).await;
}

fn children() -> usize {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let children =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    children
        .map(|children| children.split_whitespace().count())
        .sum()
}

#[tokio::test]
async fn a_program_that_ends_in_time_costs_no_worker() {
    let name = "nasty_workers::a_program_that_ends_in_time_costs_no_worker";
    if own_process(name).await.is_some() {
        return;
    }
    check_all(HOUR, |in_worker| matches!(in_worker, Keep)).await;
}

#[tokio::test]
async fn a_program_that_does_not_end_or_kills_its_worker_has_the_worker_replaced() {
    let name =
        "nasty_workers::a_program_that_does_not_end_or_kills_its_worker_has_the_worker_replaced";
    if own_process(name).await.is_some() {
        return;
    }
    check_all(GRACE, |in_worker| !matches!(in_worker, Keep)).await;
}
