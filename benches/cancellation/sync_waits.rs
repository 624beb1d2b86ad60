//! From dropping the future of a sync program that waits until its permit is free again, which is
//! when its thread has ended.

use std::time::Duration;

use serde_json::json;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};
use tower::{Service, ServiceExt};
use tower_dspy::{Host, PredictRequest};

use crate::support::{Durations, figure};

/// Programs of sync_waits.py, and how often each is dropped.
const WAITS: &[(&str, &str, usize)] = &[
    ("socket", "Socket", 100),
    ("socket_with_limit", "SocketWithLimit", 100),
    ("sleep", "Sleep", 100),
    ("queue", "Queue", 100),
    ("child", "Child", 20),
];
/// From when a program has connected until it is dropped: it is to be in its wait.
const INTO_THE_WAIT: Duration = Duration::from_millis(30);

/// Measures each wait, and prints its figures and the worst.
pub(crate) async fn measure(host: &Host) {
    let mut worst = 0.0_f64;
    for (name, class, rounds) in WAITS {
        let stopped = stopped(host, class, *rounds).await;
        figure(
            &format!("sync_wait_stopped_{name}_p50"),
            stopped.ms(50.0),
            "ms",
        );
        figure(
            &format!("sync_wait_stopped_{name}_p99"),
            stopped.ms(99.0),
            "ms",
        );
        worst = worst.max(stopped.ms(99.0));
    }
    figure("sync_wait_stopped_p99", worst, "ms");
}

async fn stopped(host: &Host, class: &str, rounds: usize) -> Durations {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let program = host.load(format!("sync_waits:{class}"));
    let mut program = program.max_in_flight(1).await.expect("a program");
    let mut stopped = Durations::new();
    for _ in 0..rounds {
        let request = PredictRequest::new(json!({"port": port}));
        let ready = program.ready().await.expect("readiness");
        let waiting = tokio::spawn(ready.call(request));
        let (_peer, _) = listener.accept().await.expect("a connection");
        sleep(INTO_THE_WAIT).await;
        let dropped = Instant::now();
        waiting.abort();
        // There is one permit.
        program.ready().await.expect("readiness");
        stopped.record(dropped.elapsed());
    }
    stopped
}
