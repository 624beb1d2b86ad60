//! Calls that hang: from the end of the grace until the pool is at full strength again.

use std::time::Duration;

use serde_json::json;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, timeout},
};
use tower::ServiceExt;
use tower_dspy::{Host, PredictRequest, WorkerStats};

use crate::{
    LIMIT, ask, canned, question,
    support::{Durations, figure},
    workers,
};

const HANGS: u64 = 100;
const WORKERS: usize = 2;
const GRACE: Duration = Duration::from_millis(300);

pub(crate) struct Hangs {
    /// Until as many workers take calls as there are to be.
    serving: Durations,
    /// Until the one that hung is gone as well, and its call settled.
    restored: Durations,
}

pub(crate) async fn measure() -> Hangs {
    let workers = workers(WORKERS).await.kill_after(GRACE);
    let host = workers.start().await.expect("workers");
    let qa = question(&host).await;
    let hangs = host.load("hangs:hangs").lm(canned());
    let hangs = hangs.await.expect("a program");
    let mut found = Hangs {
        serving: Durations::new(),
        restored: Durations::new(),
    };
    for n in 1..=HANGS {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let request = PredictRequest::new(json!({"port": port}));
        let call = tokio::spawn(hangs.clone().oneshot(request));
        let (_peer, _) = listener.accept().await.expect("a call that runs");
        call.abort();
        let grace_ends = Instant::now() + GRACE;
        let lost = |stats: &WorkerStats| stats.lost == n && stats.ready() == WORKERS;
        let serving = seen(&host, lost).await;
        // What is ready answers.
        qa.clone().oneshot(ask(0)).await.expect("an answer");
        let gone = |stats: &WorkerStats| lost(stats) && stats.processes.len() == WORKERS;
        let restored = seen(&host, gone).await;
        let after = |at: Instant| at.checked_duration_since(grace_ends);
        found
            .serving
            .record(after(serving).expect("no end before the grace's"));
        found
            .restored
            .record(after(restored).expect("no end before the grace's"));
        assert_eq!(hangs.in_flight(), 0);
    }
    host.stop(Duration::from_secs(5)).await;
    found
}

/// When the pool came to be so.
async fn seen(host: &Host, so: impl Fn(&WorkerStats) -> bool) -> Instant {
    let wait = async {
        while !so(&host.worker_stats().expect("workers")) {
            sleep(Duration::from_millis(1)).await;
        }
        Instant::now()
    };
    timeout(LIMIT, wait).await.expect("a pool that recovers")
}

impl Hangs {
    pub(crate) fn p99_ms(&self) -> f64 {
        self.restored.ms(99.0)
    }

    pub(crate) fn print(&self) {
        println!("{HANGS} calls that hang in Python code, whatever is raised there");
        for (name, took) in [("serving", &self.serving), ("replaced", &self.restored)] {
            for (percentile, p) in [("p50", 50.0), ("p99", 99.0), ("max", 100.0)] {
                figure(
                    &format!("hang_to_{name}_{percentile}_seen"),
                    took.ms(p),
                    "ms",
                );
            }
        }
    }
}
