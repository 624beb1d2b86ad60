//! SIGINT is left to Rust.

use tokio::process::Command;
use tower::ServiceExt;

use crate::support::{ask, own_process, question, start};

#[tokio::test]
async fn sigint_is_left_to_rust_and_the_loop_goes_on() {
    if own_process("signals::sigint_is_left_to_rust_and_the_loop_goes_on")
        .await
        .is_some()
    {
        return;
    }
    // One handler from before Python, and one from after.
    for _ in 0..2 {
        let mut interrupts =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).unwrap();
        let host = start().await;
        let qa = question(&host, "signals").await;
        signal_self("-INT").await;
        interrupts.recv().await.unwrap();
        qa.oneshot(ask("still there?")).await.unwrap();
    }
    assert_eq!(real_time_signals(), 0);
}

pub(crate) async fn signal_self(signal: &str) {
    let pid = std::process::id().to_string();
    let kill = Command::new("kill").args([signal, &pid]).status();
    assert!(kill.await.unwrap().success());
}

/// Those that the process has handlers for, but for the two that the C library keeps for itself.
fn real_time_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    u64::from_str_radix(caught.unwrap().trim(), 16).unwrap() >> 33
}
